"""Times as senders write them: each route reads the same forms, and one that cannot be read costs no event."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.read_model import add_token
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

INGEST, BATCH, SDK_BATCH = "/api/events/ingest", "/api/events/batch", "/v1/batch"
NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
READABLE = ["2025-12-24t12:00:00z", "2025-12-24T12:00:00,0Z", "20251224T120000Z", "2025-12-24T11:59:60Z"]
READABLE += ["1766577600", "1766577600000", "1766577600000000"]
NUMBERS = [1766577600, 1766577600000, 1766577600.0, 1766577600000000]
UNREADABLE = ["yesterday", "0", 0, True, [], {"at": 1}, "2025-02-30", "12345678901", -1e99]


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """A gateway, and query for its parameters."""
    async with run_services(stack, "gateway", "query") as services:
        yield services


@pytest.fixture
async def client(services: ServiceProcesses, sender: Registered) -> AsyncIterator[httpx.AsyncClient]:
    """Sends with the key in the header."""
    headers = {"X-Api-Key": sender.api_key}
    async with http_client(base_url=services.url("gateway"), headers=headers, timeout=20) as client:
        yield client


async def send_on_each_route(client: httpx.AsyncClient, times: list[Any]) -> None:
    """Send an event with each time on each route."""
    events = [{"eventName": "e", "userId": "u", "eventTimestamp": at} for at in times]
    messages = [{"type": "track", "event": "e", "userId": "u", "timestamp": at} for at in times]
    for event in events:
        assert (await client.post(INGEST, json=event)).status_code == 202
    lines = "\n".join(json.dumps(event) for event in events)
    for path, body in ((BATCH, json.dumps(events)), (BATCH, lines), (SDK_BATCH, json.dumps({"batch": messages}))):
        answer = (await client.post(path, content=body)).json()
        assert (answer["accepted"], answer["refused"]) == (len(times), 0), answer


async def test_each_form_of_a_time_is_read_on_every_route(client: httpx.AsyncClient, stack: Stack) -> None:
    await send_on_each_route(client, [*READABLE, *NUMBERS])
    pixel = await client.get("/v1/pixel", params={"event": "e", "userId": "u", "timestamp": "1766577600"})

    assert pixel.status_code == 200
    owner = await stack.write()
    rows = await owner.fetch("select event_timestamp, original_timestamp, is_valid from write.tracking_events")
    assert len(rows) == 4 * len(READABLE + NUMBERS) + 1
    assert {tuple(row) for row in rows} == {(NOON, NOON, True)}


async def test_a_time_that_cannot_be_read_is_flagged_and_the_event_stored_at_its_receive_time(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    await send_on_each_route(client, UNREADABLE)
    pixel = await client.get("/v1/pixel", params={"event": "e", "userId": "u", "timestamp": "yesterday"})

    assert pixel.status_code == 200
    owner = await stack.write()
    rows = await owner.fetch(
        "select event_timestamp = received_at as is_now, original_timestamp, is_valid,"
        " validation_errors->0->>'code' as code, validation_errors->0->>'message' as message from write.tracking_events"
    )
    # an SDK's null, 0 or false is a missing time
    flagged = [row for row in rows if row["code"] == "unreadable_time"]
    assert len(rows) == 4 * len(UNREADABLE) + 1
    assert len(rows) - len(flagged) <= 2
    assert {(row["is_now"], row["original_timestamp"], row["is_valid"]) for row in flagged} == {(True, None, False)}
    assert sum("'yesterday'" in row["message"] for row in flagged) == 5


async def test_an_unreadable_sent_at_corrects_nothing(client: httpx.AsyncClient, stack: Stack) -> None:
    event = {"eventName": "e", "userId": "u", "eventTimestamp": "1766577600", "sentAt": "soon", "eventId": str(uuid4())}

    assert (await client.post(INGEST, json=event)).json()["validationErrors"][0]["code"] == "unreadable_time"
    assert (await client.post(BATCH, json={"sentAt": [], "events": [event | {"sentAt": None}]})).status_code == 202
    assert await stack.write_value("select event_timestamp from write.tracking_events") == NOON


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [
        ("2025-12-24t12:00:00z", "2025-12-24T12:00:00,5Z", 200),
        ("1766577600", "1766577600001", 200),
        ("20251224", "2025-12-24", 200),
        ("2025-12-24T12:00:00+01:00", "2025-12-24T12:00:00Z", 200),
        ("1766577600", "1766577599", 400),
        ("yesterday", "", 400),
        ("12345678901", "", 400),
    ],
)
async def test_query_reads_the_same_forms_and_answers_400_to_others(
    services: ServiceProcesses, stack: Stack, sender: Registered, start: str, end: str, status: int
) -> None:
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    async with http_client(base_url=services.url("query"), headers=headers) as client:
        path = f"/api/events/partner-system/{sender.system_id}/statistics"
        answer = await client.get(path, params={"startDate": start, "endDate": end})

    assert answer.status_code == status, answer.text
