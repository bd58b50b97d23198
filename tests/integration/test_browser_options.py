"""When the script counts a page, and what its options leave out, in Chromium."""

import json
import re
from collections.abc import AsyncIterator
from threading import Thread
from typing import Any

import pytest

from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tests.support.tracked_pages import SITE, Handler, Site, a_key, events, open_page, seen


@pytest.fixture
def site(chromium: str) -> Any:
    """A site of its own."""
    server = Site(("127.0.0.1", 0), Handler)
    server.chromium = chromium
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """Gateway and admin."""
    async with run_services(stack, "gateway", "admin") as services:
        yield services


async def test_a_page_that_is_rendered_ahead_counts_when_it_is_opened(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    ahead = "Object.defineProperty(document, 'prerendering', {get: () => !window.isOpened})"
    async with open_page(site, services, await a_key(services), signal=ahead) as page:
        await page.evaluate("tracker.track('ahead'); tracker.flush()")
        await page.evaluate("history.pushState({}, '', '/moved')")
        assert await page.evaluate("Object.keys(localStorage).filter(name => name.startsWith('vt.queue'))") == []

        await page.evaluate("window.isOpened = true; document.dispatchEvent(new Event('prerenderingchange'))")
        await page.evaluate("tracker.track('opened'); tracker.flush()")
        found = await seen(stack, 4)
        await page.goto("about:blank")

        # another one, which nobody opens
        await page.goto(f"http://{SITE}/never")
        await page.evaluate("tracker.track('never')")
        await page.goto("about:blank")
        await page.goto(f"http://{SITE}/last")
        await page.evaluate("window.isOpened = true; document.dispatchEvent(new Event('prerenderingchange'))")
        found = await seen(stack, 5)

    assert sorted(event["event_name"] for event in found) == ["ahead", "opened", "page", "page", "page"]
    assert "never" not in json.dumps(found)


async def test_a_page_that_back_shows_as_it_was_left_is_a_view(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    shown = "window.dispatchEvent(new PageTransitionEvent('pageshow', {persisted: PERSISTED}))"
    async with open_page(site, services, await a_key(services)) as page:
        await seen(stack, 1)
        await page.evaluate(shown.replace("PERSISTED", "false") + "; tracker.track('same')")
        await page.evaluate(shown.replace("PERSISTED", "true") + "; tracker.flush()")
        found = await seen(stack, 3)

    assert [event["event_name"] for event in found] == ["page", "same", "page"]
    assert found[0]["properties"]["url"] == found[2]["properties"]["url"]


async def test_the_script_works_as_a_module(stack: Stack, services: ServiceProcesses, site: Site) -> None:
    async with open_page(site, services, await a_key(services), options="type='module'") as page:
        await page.evaluate("tracker.track('from a module'); tracker.flush()")
        found = await seen(stack, 2)

    assert [event["event_name"] for event in found] == ["page", "from a module"]


@pytest.mark.parametrize(
    ("allowed", "kept"), [("false", ""), ("utm_source, ref", "?utm_source=x&ref=y"), ("true", None)]
)
async def test_of_a_query_string_only_what_is_allowed_is_sent(
    stack: Stack, services: ServiceProcesses, site: Site, allowed: str, kept: str | None
) -> None:
    path = "/reset?utm_source=x&reset_token=secret&ref=y&a?b#part"
    async with open_page(site, services, await a_key(services), options=f"data-query='{allowed}'", path=path) as page:
        await page.evaluate("history.pushState({}, '', '/next?reset_token=secret')")
        await page.evaluate("tracker.track('done'); tracker.flush()")
        found = await seen(stack, 3)
        await page.goto(f"http://{SITE}/other?reset_token=secret", referer=f"http://{SITE}/?reset_token=secret")
        await page.evaluate("tracker.flush()")
        found = await seen(stack, 4)

    if kept is None:
        assert found[0]["properties"]["search"] == "?utm_source=x&reset_token=secret&ref=y&a?b"
        return
    # the pages of this site have their address as their title
    assert "secret" not in re.sub(r"Title of [^\"]*", "", json.dumps(found))
    first, done = found[0]["properties"], next(event for event in found if event["event_name"] == "done")
    assert (first["url"], first["search"]) == (f"http://{SITE}/reset{kept}", kept)
    assert done["context"]["page"]["referrer"] == f"http://{SITE}/reset{kept}"


@pytest.mark.parametrize(
    ("options", "is_sent"),
    [
        ("data-domains='www.shop.example, shop.example'", True),
        ("data-domains='www.shop.example'", False),
        ("data-domains='op.example'", False),
        ("data-localhost='false'", True),
    ],
)
async def test_a_page_of_another_domain_sends_nothing(
    stack: Stack, services: ServiceProcesses, site: Site, options: str, is_sent: bool
) -> None:
    async with open_page(site, services, await a_key(services), options=options) as page:
        await page.evaluate("tracker.optIn(); tracker.track('x'); tracker.flush()")
        if is_sent:
            await seen(stack, 2)
        assert await page.evaluate("localStorage.getItem('vt.anonymous') !== null") is is_sent

    assert bool(await events(stack)) is is_sent


async def test_localhost_can_be_left_out(stack: Stack, services: ServiceProcesses, site: Site) -> None:
    key = await a_key(services)
    for options, is_sent in (("data-localhost='false'", False), ("", True)):
        async with open_page(site, services, key, options=options) as page:
            for host in ("localhost", "127.0.0.1"):
                await page.goto(f"http://{host}:{site.server_address[1]}/")
                await page.evaluate("tracker.track('x'); tracker.flush()")
                assert await page.evaluate("localStorage.getItem('vt.anonymous') !== null") is is_sent


IDENTIFY_NOBODY = """() => {
  const nobody = [undefined, null, NaN, 0, true, false, {}, [], "", " ", "undefined", '"null"', "Guest", "userId",
    "[object Object]", "00000000-0000-0000-0000-000000000000"];
  for (const id of nobody) tracker.identify(id, {plan: "pro"});
  tracker.identify("ann");
  tracker.identify(42);
  tracker.flush();
  return nobody.length;
}"""


async def test_identify_without_an_id_is_ignored_and_says_so(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    said: list[str] = []
    async with open_page(site, services, await a_key(services), options="data-auto='false'") as page:
        page.on("console", lambda message: said.append(message.text))
        number = await page.evaluate(IDENTIFY_NOBODY)
        found = await seen(stack, 2)

    assert [event["user_id"] for event in found] == ["ann", "42"]
    assert len([text for text in said if "identify is ignored" in text]) == number
