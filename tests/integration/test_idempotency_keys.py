"""An Idempotency-Key is good for one request: repeats of it are harmless, and another body with it is 422."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.registry import register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

INGEST, BATCH, SDK_BATCH, SDK_TRACK = "/api/events/ingest", "/api/events/batch", "/v1/batch", "/v1/track"
UUID_KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
COUNT = "select count(*) from write.tracking_events"


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sends to a gateway, with the key of a system in the header."""
    headers = {"X-Api-Key": (await register_system(stack)).api_key}
    async with run_services(stack, "gateway") as services:
        async with http_client(base_url=services.url("gateway"), headers=headers, timeout=20) as client:
            yield client


def an_event(**changes: Any) -> dict[str, Any]:
    return {"eventName": "order", "event": "order", "type": "track", "userId": "user_1"} | changes


def make_body(path: str, **changes: Any) -> dict[str, Any]:
    """Return a request of two events, or of one where the route takes one."""
    if path == BATCH:
        return {"events": [an_event(), an_event(**changes)]}
    return {"batch": [an_event(), an_event(**changes)]} if path == SDK_BATCH else an_event(**changes)


async def post(client: httpx.AsyncClient, path: str, body: Any, key: str = "k", query: str = "") -> httpx.Response:
    return await client.post(path + query, json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize(
    ("path", "key", "is_from_page"),
    [
        (INGEST, "k", False),
        (INGEST, UUID_KEY, True),
        (BATCH, UUID_KEY, False),
        (SDK_BATCH, "k", True),
        (SDK_TRACK, "k", False),
    ],
)
async def test_a_key_with_another_body_is_422_and_nothing_of_it_is_stored(
    client: httpx.AsyncClient, stack: Stack, path: str, key: str, is_from_page: bool
) -> None:
    if is_from_page:
        client.headers["Origin"] = "https://shop.example.com"  # keeps a request off the fast path
    first, again = [await post(client, path, make_body(path), key) for _ in range(2)]
    before = await stack.write_value(COUNT)

    others = [
        await post(client, path, make_body(path, userId="user_2"), key),
        await post(client, path, make_body(path, eventTimestamp="2025-12-24T10:30:00Z"), key),
        await post(client, BATCH, {"events": [an_event()] * 3}, key),
        await post(client, BATCH, {"events": [an_event(eventId="own")]}, key),
        await post(client, INGEST, an_event(eventProperties={"n": 1}), key, "?dryRun=true"),
    ]

    assert first.status_code == again.status_code == (202 if path in (INGEST, BATCH) else 200)
    assert [(other.status_code, other.json()["code"]) for other in others] == [(422, "idempotency_key_reused")] * 5
    assert await stack.write_value(COUNT) == before == (2 if "batch" in path else 1)
    assert (await post(client, path, make_body(path), key)).status_code == first.status_code


async def test_a_repeat_has_the_ids_of_the_first_request(client: httpx.AsyncClient, stack: Stack) -> None:
    body = {"events": [an_event(), an_event(eventId="own"), an_event()]}

    first, again = [(await post(client, BATCH, body)).json() for _ in range(2)]

    ids = [[result["eventId"] for result in answer["results"]] for answer in (first, again)]
    assert ids[0] == ids[1]
    assert (first["accepted"], again["duplicates"]) == (3, 3)
    assert await stack.write_value(COUNT) == 3


async def test_the_name_of_an_event_does_not_depend_on_its_neighbours(client: httpx.AsyncClient, stack: Stack) -> None:
    neighbours = [[an_event(), an_event()], [an_event(eventId="own"), an_event()], [{"not": "one"}, an_event()]]

    for number, (one, other) in enumerate(neighbours):
        assert (await post(client, BATCH, [one, other], f"key-{number}")).status_code == 202

    owner = await stack.write()
    rows = await owner.fetch("select message_id from write.tracking_events order by 1")
    names = [row["message_id"] for row in rows]
    assert names == ["key-0", "key-0:1", "key-1:1", "key-2:1", "own"]


async def test_of_two_bodies_at_once_one_is_stored_whole(client: httpx.AsyncClient, stack: Stack) -> None:
    bodies = [{"events": [an_event(userId=f"user_{n}")] * (n + 1)} for n in range(20)]

    answers = await asyncio.gather(*(post(client, BATCH, body, "race") for body in bodies))

    assert sorted(answer.status_code for answer in answers) == [202] + [422] * 19
    winner = next(answer.json() for answer in answers if answer.status_code == 202)
    assert winner["accepted"] == len(winner["results"]) == await stack.write_value(COUNT)
    assert await stack.write_value("select count(distinct user_id) from write.tracking_events") == 1


async def test_an_event_that_others_sent_too_stays_when_a_request_is_refused(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    await post(client, INGEST, an_event(), "taken")
    shared = an_event(eventId="shared")

    refused, *accepted = await asyncio.gather(
        post(client, BATCH, [shared], "taken"), *(client.post(BATCH, json=[shared]) for _ in range(10))
    )

    assert refused.status_code == 422
    assert {answer.status_code for answer in accepted} == {202}
    assert sum(answer.json()["accepted"] for answer in accepted) == 1
    assert await stack.write_value(COUNT) == 2


async def test_a_request_that_stored_nothing_leaves_its_key_free(client: httpx.AsyncClient, stack: Stack) -> None:
    wrong = await post(client, INGEST, {"eventName": "", "userId": "user_1"}, "free")
    dry = await post(client, INGEST, an_event(userId="user_3"), "free", "?dryRun=true")
    right = await post(client, INGEST, an_event(), "free")

    assert [wrong.status_code, dry.status_code, right.status_code] == [400, 202, 202]
    assert await stack.write_value(COUNT) == 1


async def test_a_key_belongs_to_its_partner_system(client: httpx.AsyncClient, stack: Stack) -> None:
    other = {"X-Api-Key": (await register_system(stack, "Shop")).api_key, "Idempotency-Key": "k"}

    first = await post(client, INGEST, an_event())
    second = await client.post(INGEST, content=json.dumps(an_event(userId="user_2")), headers=other)

    assert [first.status_code, second.status_code] == [202, 202]
    assert await stack.write_value(COUNT) == 2
