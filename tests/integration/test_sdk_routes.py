"""The routes for SDKs of Segment and RudderStack take the requests of these SDKs and give the responses they expect."""

import base64
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import brotli
import httpx
import pytest
import zstandard

from tests.support.http_client import http_client
from tests.support.registry import Registered, publish_structure, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

KINDS = ("track", "identify", "page", "screen", "group", "alias")
PREFLIGHT = {
    "Origin": "https://shop.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "anonymousid,authorization,traceparent,x-retry-count",
}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works; `Order Completed` must have a total."""
    schema = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}
    await publish_structure(stack, "Order Completed", schema)
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """A gateway alone."""
    async with run_services(stack, "gateway") as services:
        yield services


@pytest.fixture
async def client(services: ServiceProcesses, sender: Registered) -> AsyncIterator[httpx.AsyncClient]:
    """Sends the key as SDKs do: the user name of Basic, without a password."""
    async with http_client(base_url=services.url("gateway"), auth=(sender.api_key, ""), timeout=20) as client:
        yield client


def a_message(kind: str, number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "event": "Order Completed" if kind == "track" else None,
        "messageId": f"{kind}-{number}",
        "userId": "u1",
        "anonymousId": None,
        "timestamp": "2026-01-02T03:04:05.678Z",
        "properties": {"total": 1} if kind in ("track", "page", "screen") else None,
        "traits": {"plan": "pro"},
        "context": {"library": {"name": "analytics-x", "version": "1"}},
        "integrations": {"All": True},
        **changes,
    }


async def stored(stack: Stack) -> list[Any]:
    owner = await stack.write()
    return await owner.fetch(
        "select *, event_properties::text as properties, context::text as surroundings from write.tracking_events "
        "order by message_id"
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_every_type_by_its_long_and_short_path(client: httpx.AsyncClient, stack: Stack, kind: str) -> None:
    long = await client.post(f"/v1/{kind}", json=a_message(kind, 1))
    short = await client.post(f"/v1/{kind[0]}", json=a_message(kind, 2))

    assert (long.status_code, short.status_code) == (200, 200), long.text + short.text
    assert long.json()["success"] is True
    rows = await stored(stack)
    assert [row["message_id"] for row in rows] == [f"{kind}-1", f"{kind}-2"]
    assert {row["event_type"] or "track" for row in rows} == {kind}
    assert {row["event_name"] for row in rows} == {"Order Completed" if kind == "track" else kind}
    # traits of a message whose type has none are those of its context
    traits = {"traits": {"plan": "pro"}} if kind in ("track", "page", "screen") else {}
    assert json.loads(rows[0]["surroundings"]) == {"library": {"name": "analytics-x", "version": "1"}, **traits}


async def test_a_batch_of_all_types_is_stored_once_however_often_it_comes(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    messages = [a_message(kind, number) for kind in KINDS for number in range(20)]
    first = await client.post("/v1/batch", json={"batch": messages, "sentAt": "2026-01-02T03:04:06Z"})
    # a repeat differs in everything but the ids
    again = [{**message, "_metadata": {"retryCount": 1}, "sentAt": "2026-01-02T03:14:06Z"} for message in messages]
    second = await client.post("/v1/b", json={"batch": again}, headers={"X-Retry-Count": "1"})

    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.json()["accepted"], second.json()["duplicates"]) == (120, 120)
    assert len(await stored(stack)) == 120


async def test_one_bad_message_never_spoils_its_batch(client: httpx.AsyncClient, stack: Stack) -> None:
    bad: list[Any] = [None, {"type": "unknown"}, a_message("track", 8, event="x" * 201), a_message("page", userId=None)]
    flagged = a_message("track", 9, properties={"total": "much"})

    response = await client.post("/v1/batch", json={"batch": [*bad, flagged, a_message("track", 1)]})

    answer = response.json()
    assert response.status_code == 200
    assert (answer["accepted"], answer["refused"], answer["invalid"]) == (2, 4, 1)
    assert [rejection["index"] for rejection in answer["refusals"]] == [0, 1, 2, 3]
    assert [(row["message_id"], row["is_valid"]) for row in await stored(stack)] == [
        ("track-1", True),
        ("track-9", False),
    ]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", None])
async def test_a_body_is_what_its_bytes_are(
    client: httpx.AsyncClient, stack: Stack, content_type: str, encoding: str | None
) -> None:
    body = json.dumps({"batch": [a_message("track")]}).encode()
    packed = {"gzip": gzip.compress(body), "br": brotli.compress(body), "zstd": zstandard.compress(body), None: body}
    headers = {"Content-Type": content_type} | ({"Content-Encoding": encoding} if encoding else {})

    response = await client.post("/v1/batch", content=packed[encoding], headers=headers)

    assert (response.status_code, response.json()["accepted"]) == (200, 1)


async def test_the_key_in_all_its_forms(services: ServiceProcesses, sender: Registered) -> None:
    key = sender.api_key
    basic = base64.b64encode(f"{key}:".encode()).decode()
    async with http_client(base_url=services.url("gateway")) as client:
        answers = [
            await client.post("/v1/t", json=a_message("track"), headers={"Authorization": f"Basic {basic}"}),
            await client.post("/v1/t", json=a_message("track"), headers={"Authorization": f"Bearer {key}"}),
            await client.post("/v1/t", json=a_message("track"), headers={"X-Api-Key": key}),
            await client.post(f"/v1/t?writeKey={key}", json=a_message("track")),
            await client.post("/v1/t", json=a_message("track", writeKey=key)),
            await client.post("/v1/batch", json={"batch": [a_message("track")], "writeKey": key}),
        ]
        rejected = [
            await client.post("/v1/batch", json={"batch": []}),
            await client.post("/v1/t", json=a_message("track"), headers={"Authorization": "Basic c2tfbm9ib2R5Og=="}),
        ]

    assert [answer.status_code for answer in answers] == [200] * 6
    assert [(answer.status_code, answer.json()["code"]) for answer in rejected] == [
        (401, "missing_api_key"),
        (401, "unknown_api_key"),
    ]


async def test_a_body_that_is_no_json_is_a_final_error_with_a_code(client: httpx.AsyncClient) -> None:
    for body in (b"", b"{", b"no json"):
        response = await client.post("/v1/batch", content=body)

        assert (response.status_code, response.json()["code"]) == (400, "malformed_json")


async def test_a_page_of_another_origin_may_send_and_read_the_answer(
    services: ServiceProcesses, sender: Registered
) -> None:
    async with http_client(base_url=services.url("gateway")) as browser:
        for path in ("/v1/t", "/v1/batch", "/api/events/ingest", "/api/events/batch"):
            preflight = await browser.options(path, headers=PREFLIGHT)
            assert preflight.status_code == 204
            assert preflight.headers["access-control-allow-origin"] == PREFLIGHT["Origin"]
            assert preflight.headers["access-control-allow-credentials"] == "true"
            assert preflight.headers["access-control-allow-headers"] == PREFLIGHT["Access-Control-Request-Headers"]
            assert int(preflight.headers["access-control-max-age"]) >= 600
        origin = {"Origin": "https://shop.example"}
        good = await browser.post(f"/v1/t?writeKey={sender.api_key}", json=a_message("track"), headers=origin)
        bad = await browser.post("/v1/t", json=a_message("track"), headers=origin)
        event = {"apiKey": sender.api_key, "eventName": "x", "userId": "u"}
        own = await browser.post("/api/events/ingest", json=event, headers=origin)

    assert (good.status_code, bad.status_code, own.status_code) == (200, 401, 202)
    for answer in (good, bad, own):
        assert answer.headers["access-control-allow-origin"] == origin["Origin"]
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
