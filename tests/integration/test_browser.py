"""The script in a real browser: Chromium shows a page whose origin differs from the gateway's."""

import asyncio
import json
from collections.abc import AsyncIterator
from threading import Thread
from typing import Any
from uuid import UUID

import pytest

from tests.support.http_client import http_client
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tests.support.tracked_pages import SITE, Handler, Site, a_key, events, open_page, seen
from tracking.domain.ids import is_made_per_call


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
