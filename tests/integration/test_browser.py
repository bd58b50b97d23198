"""The script in a real browser: Chromium shows a page whose origin differs from the gateway's."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.domain.ids import is_made_per_call

SITE = "shop.example"
PAGE = """<!doctype html><title>{title}</title><body><a href="/next">next</a>
<script src="{gateway}/v1/tracker.js" data-key="{key}" {options}></script></body>"""


class Site(ThreadingHTTPServer):
    """Serves `page` under every path; `chromium` is the browser's program."""

    page = ""
    chromium = ""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """The page."""
        assert isinstance(self.server, Site)
        body = self.server.page.replace("{title}", f"Title of {self.path}").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


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


async def a_key(services: ServiceProcesses, **settings: Any) -> str:
    async with administrator(services) as admin:
        system = await a_system(admin)
        if settings:
            changed = await admin.patch(f"/api/partnersystems/{system['id']}", json={"settings": settings})
            assert changed.status_code == 200, changed.text
    return str(system["apiKey"])


@asynccontextmanager
async def browsing(site: Site) -> AsyncIterator[Browser]:
    """A headless browser that knows the site by its name."""
    address = f"MAP {SITE}:80 127.0.0.1:{site.server_address[1]}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=site.chromium,
            args=["--no-sandbox", f"--host-resolver-rules={address}"],
            timeout=PATIENCE_S * 1000,
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(
    site: Site, services: ServiceProcesses, key: str, options: str = "", signal: str = "", path: str = "/"
) -> AsyncIterator[Page]:
    """A page with the script; `signal` runs before it."""
    site.page = PAGE.replace("{gateway}", services.url("gateway")).replace("{key}", key).replace("{options}", options)
    async with browsing(site) as browser:
        context = await browser.new_context(user_agent="Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0 Safari/537.36")
        if signal:
            await context.add_init_script(signal)
        context.set_default_timeout(PATIENCE_S * 1000)
        page = await context.new_page()
        await page.goto(f"http://{SITE}{path}")
        yield page


async def events(stack: Stack) -> list[dict[str, Any]]:
    """All that is stored, in the order in which it happened."""
    owner = await stack.write()
    rows = await owner.fetch(
        "select event_name, event_type, anonymous_id, user_id, message_id, event_properties::text as properties,"
        " context::text as context from write.tracking_events order by original_timestamp, message_id"
    )
    return [{**row, "properties": json.loads(row["properties"]), "context": json.loads(row["context"])} for row in rows]


async def seen(stack: Stack, number: int) -> list[dict[str, Any]]:
    """Once there are so many."""

    async def ask() -> list[dict[str, Any]]:
        return await events(stack)

    return await until(ask, lambda found: len(found) >= number)


async def test_views_routes_events_and_persons_arrive_once(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    async with open_page(site, services, await a_key(services), path="/start?a=1#secret") as page:
        await page.evaluate("tracker.track('added', {price: 4.5})")
        await page.evaluate("document.title = 'Cart'; history.pushState({}, '', '/cart')")
        await page.evaluate("history.replaceState({}, '', '/cart#part')")
        await page.evaluate("tracker.identify('u-1', {plan: 'pro'})")
        await page.evaluate("tracker.flush()")
        found = await seen(stack, 4)
        await page.go_back()
        await page.evaluate("tracker.flush()")
        found = await seen(stack, 5)
        left = await page.evaluate("Object.keys(localStorage).filter(name => name.startsWith('vt.queue')).length")

    assert [(event["event_name"], event["user_id"]) for event in found] == [
        ("page", None),
        ("added", None),
        ("page", None),
        ("identify", "u-1"),
        ("page", "u-1"),
    ]
    assert len({event["anonymous_id"] for event in found}) == 1
    # a page without https has no crypto.randomUUID
    ids = [UUID(event["message_id"]) for event in found]
    assert [(str(id_), id_.version) for id_ in ids] == [(event["message_id"], 4) for event in found]
    assert all(is_made_per_call(event["message_id"]) for event in found)
    first, added, cart = found[0], found[1], found[2]
    assert first["properties"]["title"] == "Title of /start?a=1"
    assert first["properties"]["url"] == f"http://{SITE}/start?a=1"
    assert "secret" not in json.dumps(found)
    assert added["properties"] == {"price": 4.5}
    assert added["context"]["library"]["name"] == "volcanion.js"
    assert (cart["properties"]["path"], cart["properties"]["title"]) == ("/cart", "Cart")
    assert cart["properties"]["referrer"] == f"http://{SITE}/start?a=1"
    assert found[3]["properties"] == {"plan": "pro"}
    assert left == 0


async def test_what_happens_last_is_sent_when_the_page_goes_and_stored_once(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    async with open_page(site, services, await a_key(services)) as page:
        await page.evaluate("tracker.track('leaving')")
        await page.goto("about:blank")
        found = await seen(stack, 2)
        await page.goto(f"http://{SITE}/again")
        found = await seen(stack, 3)

    assert [event["event_name"] for event in found] == ["page", "leaving", "page"]
    assert len({event["message_id"] for event in found}) == 3


async def test_what_happens_offline_is_kept_over_pages_and_sent_later(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    gateway = services.url("gateway")
    async with open_page(site, services, await a_key(services)) as page:
        await seen(stack, 1)
        # the gateway cannot be reached, the site itself can
        await page.route(f"{gateway}/v1/beacon*", lambda route: route.abort())
        await page.evaluate("tracker.track('one'); tracker.track('two')")
        await page.evaluate("Object.defineProperty(navigator, 'onLine', {get: () => false, configurable: true})")
        await page.goto(f"http://{SITE}/other")
        assert [event["event_name"] for event in await events(stack)] == ["page"]
        await page.unroute(f"{gateway}/v1/beacon*")
        await page.evaluate("window.dispatchEvent(new Event('online'))")
        found = await seen(stack, 4)

    assert sorted(event["event_name"] for event in found) == ["one", "page", "page", "two"]


@pytest.mark.parametrize(
    "signal",
    [
        "Object.defineProperty(navigator, 'globalPrivacyControl', {get: () => true})",
        "Object.defineProperty(navigator, 'doNotTrack', {get: () => '1'})",
    ],
    ids=["GPC", "DNT"],
)
async def test_who_asks_not_to_be_tracked_is_not(
    stack: Stack, services: ServiceProcesses, site: Site, signal: str
) -> None:
    key = await a_key(services)
    asked: list[str] = []
    async with open_page(site, services, key, signal=signal) as page:
        page.on("request", lambda request: asked.append(request.url))
        await page.evaluate("tracker.track('quiet'); tracker.identify('u'); tracker.page(); tracker.flush()")
        await page.goto(f"http://{SITE}/other")
        stored = await page.evaluate("Object.keys(localStorage)")

    assert stored == []
    assert [url for url in asked if "beacon" in url] == []
    assert await events(stack) == []


async def test_who_opts_out_leaves_nothing_and_may_come_back(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    async with open_page(site, services, await a_key(services), options="data-auto='false'") as page:
        await page.evaluate("tracker.track('before'); tracker.optOut(); tracker.track('while')")
        assert await page.evaluate("Object.keys(localStorage)") == ["vt.off"]
        await page.reload()
        await page.evaluate("tracker.track('still'); tracker.optIn(); tracker.track('after'); tracker.flush()")
        found = await seen(stack, 1)

    assert [event["event_name"] for event in found] == ["after"]


async def test_pages_of_other_origins_are_rejected_and_see_the_error(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    rejected = await a_key(services, allowedOrigins=["https://elsewhere.example"])
    async with open_page(site, services, rejected) as page:
        async with page.expect_response(lambda response: "/v1/beacon" in response.url) as answered:
            await page.evaluate("tracker.flush()")
        assert (await answered.value).status == 403
    assert await events(stack) == []

    async with open_page(site, services, await a_key(services, allowedOrigins=[f"http://{SITE}"])) as page:
        await page.evaluate("tracker.flush()")
        await seen(stack, 1)


async def test_a_request_that_needs_a_preflight_passes_it(stack: Stack, services: ServiceProcesses, site: Site) -> None:
    send = """async ([url, key]) => {
        const type = "application/json";
        const headers = {"Authorization": "Basic " + btoa(key + ":"), "Content-Type": type, "X-Retry-Count": "1"};
        const body = JSON.stringify({event: "cross", anonymousId: "a"});
        const answer = await fetch(url, {method: "POST", headers, body});
        return [answer.status, await answer.json()];
    }"""
    async with open_page(site, services, await a_key(services), options="data-auto='false'") as page:
        key = await a_key(services)
        status, answer = await page.evaluate(send, [f"{services.url('gateway')}/v1/track", key])
        wrong, error = await page.evaluate(send, [f"{services.url('gateway')}/v1/track", "sk_unknown"])

    assert (status, answer["success"]) == (200, True)
    assert (wrong, error["code"]) == (401, "unknown_api_key")
    assert [event["event_name"] for event in await seen(stack, 1)] == ["cross"]


async def test_two_tabs_share_a_person_and_lose_nothing(stack: Stack, services: ServiceProcesses, site: Site) -> None:
    async with open_page(site, services, await a_key(services), options="data-auto='false'") as page:
        other = await page.context.new_page()
        await other.goto(f"http://{SITE}/other")
        track = "name => { for (let n = 0; n < 20; n++) tracker.track(name + n); tracker.flush(); }"
        await asyncio.gather(page.evaluate(track, "one"), other.evaluate(track, "two"))
        found = await seen(stack, 40)

    assert len({event["event_name"] for event in found}) == 40
    assert len({event["anonymous_id"] for event in found}) == 1


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


SEND_WITH_ALL = """async url => {
  const send = (body, more) => fetch(url, {method: "POST", body: JSON.stringify(body), ...more}).then(a => a.status);
  const message = n => ({batch: [{type: "track", event: "sent" + n, anonymousId: "a", messageId: "all-" + n}]});
  const headers = {"Content-Type": "application/json", "AnonymousId": "x", "traceparent": "00-1-2-01"};
  const pixel = url.replace("beacon", "pixel") + "&event=sent4&anonymousId=a";
  const beacon = new Blob([JSON.stringify(message(3))], {type: "application/json"});
  return [
    await send(message(1), {headers}),
    await send(message(2), {headers, credentials: "include"}),
    navigator.sendBeacon(url, beacon),
    (await fetch(pixel, {credentials: "include", headers})).status,
  ];
}"""


async def test_a_page_sends_with_credentials_and_any_headers_and_a_beacon_of_json(
    stack: Stack, services: ServiceProcesses, site: Site
) -> None:
    key = await a_key(services)
    async with open_page(site, services, key, options="data-auto='false'") as page:
        answers = await page.evaluate(SEND_WITH_ALL, f"{services.url('gateway')}/v1/beacon?writeKey={key}")
        assert answers == [200, 200, True, 200]
        found = await seen(stack, 4)

    assert sorted(event["event_name"] for event in found) == ["sent1", "sent2", "sent3", "sent4"]


async def test_a_beacon_may_come_from_any_origin(services: ServiceProcesses) -> None:
    async with http_client(base_url=services.url("gateway")) as client:
        preflight = await client.options("/v1/beacon", headers={"Origin": f"http://{SITE}"})

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == f"http://{SITE}"
