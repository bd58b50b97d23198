"""The gateway on real servers: its responses, the stored events, duplicates, and batches with a rejected event."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.registry import Registered, publish_structure, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

INGEST, BATCH = "/api/events/ingest", "/api/events/batch"
DEEP = b"[" * 64 + b"]" * 64
PRICE = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number", "minimum": 0}}}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works; `purchase` has a structure."""
    await publish_structure(stack, "purchase", PRICE)
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """A gateway alone: no worker reads what it publishes. Bursts are committed in time on a busy machine too."""
    async with run_services(stack, "gateway", settings={"TRACKING_COMMIT_DEADLINE_S": "20"}) as services:
        yield services


@pytest.fixture
async def client(services: ServiceProcesses, sender: Registered) -> AsyncIterator[httpx.AsyncClient]:
    """Sends with the key in the header."""
    headers = {"X-Api-Key": sender.api_key}
    async with http_client(base_url=services.url("gateway"), headers=headers, timeout=20) as client:
        yield client


def an_envelope(**changes: Any) -> dict[str, Any]:
    envelope = {"eventName": "page_view", "anonymousId": "anon_1", "eventProperties": {"page": "/home"}}
    return {name: value for name, value in (envelope | changes).items() if value is not ...}


async def stored(stack: Stack) -> list[Any]:
    owner = await stack.write()
    return await owner.fetch("select *, event_properties::text as properties from write.tracking_events order by id")


async def test_the_specified_body_gets_the_specified_answer(
    services: ServiceProcesses, sender: Registered, stack: Stack
) -> None:
    body = {
        "apiKey": sender.api_key,
        "eventName": "page_view",
        "eventTimestamp": "2025-12-24T10:30:00Z",
        "userId": "user_12345",
        "anonymousId": "anon_67890",
        "eventProperties": '{"page": "/home", "referrer": "google.com"}',
    }

    async with http_client(base_url=services.url("gateway")) as anyone:
        response = await anyone.post(INGEST, json=body, headers={"X-Correlation-ID": "abc-123"})

    assert response.status_code == 202
    assert response.headers["X-Correlation-ID"] == "abc-123"
    answer = response.json()
    assert set(answer) == {"eventId", "isValid", "validationErrors", "receivedAt"}
    assert (answer["isValid"], answer["validationErrors"]) == (True, None)
    assert len(answer["receivedAt"]) == len("2025-12-24T10:30:00.123Z")
    [row] = await stored(stack)
    assert str(row["id"]) == answer["eventId"]
    assert row["partner_system_id"] == sender.system_id
    assert json.loads(row["properties"]) == {"page": "/home", "referrer": "google.com"}
    assert row["event_timestamp"].isoformat() == "2025-12-24T10:30:00+00:00"
    assert (row["user_id"], row["anonymous_id"], row["correlation_id"]) == ("user_12345", "anon_67890", "abc-123")


async def test_an_event_that_breaks_its_schema_is_stored_and_says_how(client: httpx.AsyncClient, stack: Stack) -> None:
    response = await client.post(INGEST, json=an_envelope(eventName="purchase", eventProperties={"price": "free"}))

    assert response.status_code == 202
    assert response.json()["isValid"] is False
    [error] = response.json()["validationErrors"]
    assert set(error) == {"code", "path", "schemaPath", "message"}
    assert (error["code"], error["path"]) == ("type", "/price")
    [row] = await stored(stack)
    assert row["is_valid"] is False
    assert json.loads(row["validation_errors"]) == [error]


async def test_the_partners_own_structure_wins_over_the_global_one(
    client: httpx.AsyncClient, stack: Stack, sender: Registered, services: ServiceProcesses
) -> None:
    own = {"type": "object", "required": ["total"]}
    await publish_structure(stack, "purchase", own, partner_id=sender.partner_id)
    await services.stop("gateway")
    await services.start("gateway")

    response = await client.post(INGEST, json=an_envelope(eventName="purchase", eventProperties={"total": 1}))

    assert response.json()["isValid"] is True


async def test_an_event_may_name_the_version_of_its_schema(
    client: httpx.AsyncClient, stack: Stack, services: ServiceProcesses
) -> None:
    await publish_structure(stack, "signup", {"required": ["plan"]}, {"required": ["plan", "country"]})
    await services.stop("gateway")
    await services.start("gateway")
    properties = {"plan": "pro"}

    def envelope(version: Any) -> dict[str, Any]:
        return an_envelope(eventName="signup", eventProperties=properties, schemaVersion=version)

    newest, first, unknown = [(await client.post(INGEST, json=envelope(v))).json() for v in (..., 1, 7)]

    assert [e["code"] for e in newest["validationErrors"]] == ["required"]
    assert first["isValid"] is True
    assert [e["code"] for e in unknown["validationErrors"]] == ["unknown_schema_version"]


async def test_a_repeat_answers_with_the_same_id_and_is_not_stored_again(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    envelope = an_envelope(eventId="order-1", eventTimestamp="2025-12-24T10:30:00.5Z")

    first, again = [(await client.post(INGEST, json=envelope)).json() for _ in range(2)]

    assert "duplicate" not in first
    assert again["duplicate"] is True
    assert again["eventId"] == first["eventId"]
    [row] = await stored(stack)
    assert row["message_id"] == "order-1"
    owner = await stack.write()
    assert await owner.fetchval("select sum(cardinality(event_ids)) from write.event_batches") == 1


async def test_the_idempotency_key_header_stands_for_an_event_id(client: httpx.AsyncClient, stack: Stack) -> None:
    sent = [await client.post(INGEST, json=an_envelope(), headers={"Idempotency-Key": key}) for key in ("a", "a", "b")]

    ids = [response.json()["eventId"] for response in sent]
    assert ids[0] == ids[1] != ids[2]
    assert len(await stored(stack)) == 2


async def test_forty_copies_at_once_are_one_event(client: httpx.AsyncClient, stack: Stack) -> None:
    batch = {"events": [an_envelope(eventId=f"e{n}") for n in range(50)]}

    answers = await asyncio.gather(*(client.post(BATCH, json=batch) for _ in range(40)))

    assert {response.status_code for response in answers} == {202}
    assert sum(response.json()["accepted"] for response in answers) == 50
    assert sum(response.json()["duplicates"] for response in answers) == 39 * 50
    assert len(await stored(stack)) == 50


async def test_a_batch_says_what_became_of_each_event(client: httpx.AsyncClient, stack: Stack) -> None:
    events = [
        an_envelope(eventId="1"),
        an_envelope(eventName="purchase", eventProperties={}),
        an_envelope(eventName=""),
        an_envelope(eventId="1"),
        "no object",
        an_envelope(anonymousId=...),
        an_envelope(schemaVersion=0),
    ]

    response = await client.post(BATCH, json={"events": events})

    assert response.status_code == 202
    answer = response.json()
    counts = {name: answer[name] for name in ("accepted", "duplicates", "invalid", "refused")}
    assert counts == {"accepted": 2, "duplicates": 1, "invalid": 1, "refused": 4}
    statuses = [result["status"] for result in answer["results"]]
    assert statuses == ["accepted", "accepted", "refused", "duplicate", "refused", "refused", "refused"]
    assert answer["results"][2]["details"] == [{"field": "eventName", "message": "required"}]
    assert answer["results"][3]["eventId"] == answer["results"][0]["eventId"]
    assert len(await stored(stack)) == 2


async def test_ndjson_is_taken_line_by_line(client: httpx.AsyncClient, stack: Stack) -> None:
    lines = [json.dumps(an_envelope()), "{broken", "", json.dumps(an_envelope())]

    response = await client.post(BATCH, content="\n".join(lines))

    assert [result["status"] for result in response.json()["results"]] == ["accepted", "refused", "accepted"]
    assert response.json()["results"][1]["code"] == "malformed_json"


async def test_a_large_batch_becomes_several_messages_and_loses_nothing(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    batch = {"events": [an_envelope(eventProperties={"n": n, "text": "x" * 500}) for n in range(2500)]}

    response = await client.post(BATCH, json=batch)

    assert response.json()["accepted"] == 2500
    owner = await stack.write()
    sizes = [row[0] for row in await owner.fetch("select cardinality(event_ids) from write.event_batches")]
    assert sum(sizes) == 2500
    assert max(sizes) <= 1000


@pytest.mark.parametrize(
    ("value", "kept", "code"),
    [
        (None, {}, None),
        ('{"a": 1}', {"a": 1}, None),
        ("no json", {"$raw": "no json"}, "not_an_object"),
        ("[1]", {"$raw": "[1]"}, "not_an_object"),
        ([1, 2], {"$raw": [1, 2]}, "not_an_object"),
        (5, {"$raw": 5}, "not_an_object"),
        ({"a\x00": ["b\x00c"]}, {"a\ufffd": ["b\ufffdc"]}, "nul_character"),
        ({"a": "\\u0000"}, {"a": "\\u0000"}, None),
    ],
)
async def test_whatever_the_properties_are_the_event_is_kept(
    client: httpx.AsyncClient, stack: Stack, value: Any, kept: Any, code: str | None
) -> None:
    response = await client.post(INGEST, json=an_envelope(eventProperties=value))

    assert response.status_code == 202
    assert [error["code"] for error in response.json()["validationErrors"] or []] == ([code] if code else [])
    [row] = await stored(stack)
    assert json.loads(row["properties"]) == kept


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b'{"eventName": "a"} trailing', 400, "malformed_json"),
        (b"\xff\xfe", 400, "malformed_json"),
        (b"[]", 400, "invalid_event"),
        (b"{}", 400, "invalid_event"),
        (b'{"eventName": 5, "userId": "u"}', 400, "invalid_event"),
        (b'{"eventName": "a"}', 400, "invalid_event"),
        (b'{"eventName": "%s", "userId": "u"}' % (b"n" * 201), 400, "invalid_event"),
        (b'{"eventName": "a", "userId": "%s"}' % (b"u" * 256), 400, "invalid_event"),
        (b'{"eventName": "a", "userId": "u", "eventId": "%s"}' % (b"i" * 101), 400, "invalid_event"),
        (b'{"eventName": "a", "userId": "u", "eventProperties": {"a": "%s"}}' % (b"x" * 65536), 413, "event_too_large"),
        (b'{"eventName": "a", "userId": "u", "eventProperties": {"a": %s}}' % DEEP, 413, "too_deep"),
    ],
)  # fmt: skip
async def test_what_cannot_be_an_event_is_rejected_with_a_reason(
    client: httpx.AsyncClient, stack: Stack, body: bytes, status: int, code: str
) -> None:
    response = await client.post(INGEST, content=body)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["correlationId"] == response.headers["X-Correlation-ID"]
    assert await stored(stack) == []


async def test_every_fault_of_an_envelope_is_listed(client: httpx.AsyncClient) -> None:
    response = await client.post(INGEST, json={"schemaVersion": 0})

    fields = {fault["field"] for fault in response.json()["details"]}
    assert fields == {"eventName", "schemaVersion", "anonymousId"}


async def test_a_body_over_the_limit_is_not_read(client: httpx.AsyncClient) -> None:
    response = await client.post(BATCH, content=b" " * (5 * 1024 * 1024 + 1))

    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


async def test_too_many_events_are_rejected_whole(client: httpx.AsyncClient, stack: Stack) -> None:
    response = await client.post(BATCH, json={"events": [{}] * 2501})

    assert (response.status_code, response.json()["code"]) == (413, "too_many_events")


async def test_gzip_is_inflated_and_a_bomb_is_not(client: httpx.AsyncClient, stack: Stack) -> None:
    headers = {"Content-Encoding": "gzip"}

    good = await client.post(INGEST, content=gzip.compress(json.dumps(an_envelope()).encode()), headers=headers)
    bomb = await client.post(INGEST, content=gzip.compress(b" " * 30_000_000), headers=headers)
    broken = await client.post(INGEST, content=b"no gzip", headers=headers)
    unknown = await client.post(INGEST, content=b"\x02{}", headers={"Content-Encoding": "snappy"})

    assert good.status_code == 202
    assert (bomb.status_code, bomb.json()["code"]) == (413, "inflated_too_large")
    assert (broken.status_code, broken.json()["code"]) == (400, "malformed_encoding")
    assert (unknown.status_code, unknown.json()["code"]) == (400, "unknown_encoding")


async def test_a_key_is_taken_from_every_place(services: ServiceProcesses, sender: Registered) -> None:
    key = sender.api_key
    async with http_client(base_url=services.url("gateway")) as anyone:
        answers = [
            await anyone.post(INGEST, json=an_envelope(), headers={"X-Api-Key": key}),
            await anyone.post(INGEST, json=an_envelope(), headers={"Authorization": f"Bearer {key}"}),
            await anyone.post(INGEST, json=an_envelope(), auth=(key, "")),
            await anyone.post(INGEST, json=an_envelope(), params={"apiKey": key}),
            await anyone.post(INGEST, json=an_envelope(), params={"writeKey": key}),
            await anyone.post(INGEST, json=an_envelope(apiKey=key)),
            await anyone.post(BATCH, json={"apiKey": key, "events": [an_envelope()]}),
        ]

    assert [response.status_code for response in answers] == [202] * 7


async def test_no_key_and_an_unknown_key_are_401(services: ServiceProcesses) -> None:
    async with http_client(base_url=services.url("gateway")) as anyone:
        missing = await anyone.post(INGEST, json=an_envelope())
        unknown = await anyone.post(INGEST, json=an_envelope(apiKey="sk_nobody"))

    assert (missing.status_code, missing.json()["code"]) == (401, "missing_api_key")
    assert (unknown.status_code, unknown.json()["code"]) == (401, "unknown_api_key")
    assert "sk_nobody" not in services.log("gateway")


async def test_one_client_id_of_two_systems_is_two_events(
    services: ServiceProcesses, sender: Registered, stack: Stack
) -> None:
    other = await register_system(stack, "App", sender.partner_id)

    async with http_client(base_url=services.url("gateway")) as anyone:
        ids = {
            (await anyone.post(INGEST, json=an_envelope(apiKey=key, eventId="same"))).json()["eventId"]
            for key in (sender.api_key, other.api_key)
        }

    assert len(ids) == 2
    assert {row["id"] for row in await stored(stack)} == {UUID(i) for i in ids}


async def test_a_client_cannot_make_up_metric_labels(client: httpx.AsyncClient) -> None:
    await client.post(INGEST, json=an_envelope(eventName="made_up_by_a_client"))
    await client.post(INGEST, json=an_envelope(eventName="purchase", eventProperties={"price": 1}))

    text = (await client.get("/metrics")).text

    assert 'event_name="other"' in text
    assert 'event_name="purchase"' in text
    assert "made_up_by_a_client" not in text


async def test_a_row_that_postgresql_rejects_does_not_fail_its_neighbours(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    owner = await stack.write()
    await owner.execute("alter table write.tracking_events add constraint no_bad check (event_name <> 'bad')")
    names = ["good", "bad", "good", "good", "bad"]

    response = await client.post(BATCH, json={"events": [an_envelope(eventName=name) for name in names]})

    statuses = [result["status"] for result in response.json()["results"]]
    assert statuses == ["accepted", "refused", "accepted", "accepted", "refused"]
    assert {result.get("code") for result in response.json()["results"]} == {None, "not_storable"}
    assert len(await stored(stack)) == 3
