"""The responses of the beacon, the pixel and the script."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.gateway.http.browser import GIF
from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
FIREFOX = {"User-Agent": CHROME, "Origin": "https://shop.example"}
MESSAGE = {"type": "track", "event": "click", "anonymousId": "a", "messageId": "m-1", "properties": {"n": 1}}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Of a gateway alone."""
    async with (
        run_services(stack, "gateway") as services,
        http_client(base_url=services.url("gateway"), timeout=20) as client,
    ):
        yield client


async def stored(stack: Stack) -> list[Any]:
    owner = await stack.write()
    rows = await owner.fetch(
        "select event_name, event_type, message_id, event_properties::text as p, context::text as c"
        " from write.tracking_events order by message_id"
    )
    return [
        (row["event_name"], row["event_type"], row["message_id"], json.loads(row["p"]), json.loads(row["c"] or "null"))
        for row in rows
    ]


async def test_a_beacon_brings_a_batch_as_text_with_its_key_in_the_query(
    stack: Stack, client: httpx.AsyncClient, sender: Registered
) -> None:
    body = json.dumps(
        {"batch": [MESSAGE, {**MESSAGE, "messageId": "m-2", "type": "page", "event": None}, {"type": "odd"}]}
    )
    headers = {**FIREFOX, "Content-Type": "text/plain;charset=UTF-8"}

    for _ in range(2):
        answer = await client.post(f"/v1/beacon?writeKey={sender.api_key}", content=body, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == FIREFOX["Origin"]
        assert answer.json()["refused"] == 1

    assert answer.json()["duplicates"] == 2
    events = await stored(stack)
    assert [event[:3] for event in events] == [("click", None, "m-1"), ("page", "page", "m-2")]
    assert events[0][4] == {"ip": "127.0.0.0", "userAgent": CHROME}


async def test_a_pixel_is_an_event_and_always_an_image(
    stack: Stack, client: httpx.AsyncClient, sender: Registered
) -> None:
    parameters = {
        "writeKey": sender.api_key,
        "event": "opened",
        "anonymousId": "a",
        "messageId": "p",
        "campaign": "may",
    }
    headers = {"User-Agent": CHROME, "Referer": "https://mail.example/inbox"}

    answers = [
        await client.get("/v1/pixel", params=parameters, headers=headers),
        await client.get("/v1/pixel", params=parameters, headers=headers),
        await client.get("/v1/pixel", params={**parameters, "anonymousId": ""}),
        await client.get("/v1/pixel", params={**parameters, "writeKey": "sk_unknown"}),
        await client.get("/v1/pixel", params={name: value for name, value in parameters.items() if name != "writeKey"}),
        await client.get("/v1/pixel", params={f"a{number}": 1 for number in range(300)}),
        await client.head("/v1/pixel"),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 400, 401, 401, 400, 200]
    assert [answer.content for answer in answers] == [GIF] * 6 + [b""]
    for answer in answers:
        assert answer.headers["content-type"] == "image/gif"
        assert answer.headers["cache-control"] == "no-store"
    assert answers[2].headers["x-error-code"] == "invalid_event"
    [event] = await stored(stack)
    assert event[:4] == ("opened", None, "p", {"campaign": "may"})
    assert event[4]["page"] == {"url": "https://mail.example/inbox"}
    assert (await client.post("/v1/pixel")).status_code == 405


async def test_pixels_of_pages_that_may_not_send_are_rejected(stack: Stack) -> None:
    async with run_services(stack, "gateway", "admin") as services:
        async with administrator(services) as admin:
            system = await a_system(admin)
            path = f"/api/partnersystems/{system['id']}"
            changed = await admin.patch(path, json={"settings": {"allowedOrigins": ["https://shop.example"]}})
            assert changed.status_code == 200, changed.text
        query = {"writeKey": system["apiKey"], "anonymousId": "a"}
        async with http_client(base_url=services.url("gateway")) as client:
            for referrer, status in (("https://shop.example/cart", 200), ("https://other.example/", 403)):
                answer = await client.get("/v1/pixel", params=query, headers={"Referer": referrer})
                assert answer.status_code == status, referrer


async def test_the_script_is_packed_kept_and_asked_for_again(client: httpx.AsyncClient) -> None:
    packed = await client.get("/v1/tracker.js")
    plain = await client.get("/v1/tracker.js", headers={"Accept-Encoding": "identity"})
    again = await client.get("/v1/tracker.js", headers={"If-None-Match": packed.headers["etag"]})

    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) <= 4096
    assert packed.content == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["content-type"] == "text/javascript; charset=utf-8"
    assert packed.headers["cache-control"] == "public, max-age=3600"
    assert packed.headers["vary"] == "Accept-Encoding, Origin"
    assert packed.headers["x-content-type-options"] == "nosniff"
    assert (again.status_code, again.content) == (304, b"")


async def test_every_name_can_be_another(stack: Stack, sender: Registered) -> None:
    names = {"SDK_PREFIX": "/m/x", "BEACON_NAME": "b1", "PIXEL_NAME": "p.gif", "SCRIPT_NAME": "s.js"}
    async with (
        run_services(
            stack, "gateway", settings={f"TRACKING_{name}": value for name, value in names.items()}
        ) as services,
        http_client(base_url=services.url("gateway"), params={"writeKey": sender.api_key}) as client,
    ):
        script = await client.get("/m/x/s.js")
        beacon = await client.post("/m/x/b1", json=MESSAGE)
        pixel = await client.get("/m/x/p.gif", params={"writeKey": sender.api_key, "userId": "u"})
        track = await client.post("/m/x/track", json={"event": "e", "userId": "u"})
        usual = [await client.get(f"/v1/{name}") for name in ("tracker.js", "pixel")]

    assert 'const ROUTE = "b1";' in script.text
    assert [answer.status_code for answer in (beacon, pixel, track)] == [200, 200, 200]
    assert [answer.status_code for answer in usual] == [404, 404]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SDK_PREFIX", "/api/x", "TRACKING_SDK_PREFIX"),
        ("SDK_PREFIX", "/..", "TRACKING_SDK_PREFIX"),
        ("PIXEL_NAME", "../x", "TRACKING_PIXEL_NAME"),
        ("PIXEL_NAME", "beacon", "must differ"),
        ("SCRIPT_NAME", "track", "must differ"),
    ],
)
async def test_a_name_that_cannot_be_is_said_at_the_start(stack: Stack, name: str, value: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        async with run_services(stack, "gateway", settings={f"TRACKING_{name}": value}):
            pass


async def test_gzip_of_the_script_is_the_script(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/v1/tracker.js", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])

    assert gzip.decompress(raw).startswith(b"/* Volcanion Tracking")
