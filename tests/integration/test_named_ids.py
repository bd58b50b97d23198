"""A name that a sender chose decides alone whether an event is a repeat; an id made per call has its timestamp too.

`tests/unit/test_ids.py` lists which ids are which.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import asyncpg
import httpx
import pytest

from tests.support.events import an_event
from tests.support.http_client import http_client
from tests.support.rebuild import QUICK, WORKERS, assert_exact, content, reach, rebuild, send
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.domain.ids import derive_dated_id

INGEST, BATCH, SDK_BATCH = "/api/events/ingest", "/api/events/batch", "/v1/batch"
TIMES = ["2025-12-24T10:30:00Z", "2025-12-24T10:30:01Z", "2024-02-29T00:00:00Z", "1066-10-14T09:00:00Z", None]
NAMES = ["order-1", "9f86d081884c7d659a2feaa0c55ad015", str(uuid5(UUID(int=1), "order")), "7", str(UUID(int=0))]
# written out, since every process that runs tests must name them alike
MADE_PER_CALL = [
    "1664957c-ed42-11f1-ab5e-02fc00000001",
    "ajs-next-1766572200000-86ee8849-b322-44ba-8b7d-f7da517e6c47",
]
COUNT = "select count(*) from write.tracking_events"


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """A gateway alone."""
    async with run_services(stack, "gateway") as services:
        yield services


@pytest.fixture
async def client(services: ServiceProcesses, sender: Registered) -> AsyncIterator[httpx.AsyncClient]:
    """Sends with the key in the header."""
    async with http_client(
        base_url=services.url("gateway"), headers={"X-Api-Key": sender.api_key}, timeout=20
    ) as client:
        yield client


def an_envelope(**changes: Any) -> dict[str, Any]:
    return {"eventName": "order", "userId": "user_1"} | changes


async def send_on_each_route(client: httpx.AsyncClient, message_id: str) -> list[dict[str, Any]]:
    """Send the same id with all `TIMES`, alone, in a batch and in a batch of an SDK."""
    answers = [
        (await client.post(INGEST, json=an_envelope(eventId=message_id, eventTimestamp=at))).json() for at in TIMES
    ]
    batch = [an_envelope(messageId=message_id, eventTimestamp=at) for at in TIMES]
    answers += (await client.post(BATCH, json=batch)).json()["results"]
    messages = [
        {"type": "track", "event": "order", "userId": "user_1", "messageId": message_id, "timestamp": at}
        for at in TIMES
    ]
    assert (await client.post(SDK_BATCH, json={"batch": messages})).json()["duplicates"] == len(TIMES)
    return answers


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_stored_once_whatever_its_timestamp(client: httpx.AsyncClient, stack: Stack, name: str) -> None:
    answers = await send_on_each_route(client, name)

    assert len({answer["eventId"] for answer in answers}) == 1
    assert await stack.write_value(COUNT) == 1
    partition = await stack.write_value("select tableoid::regclass::text from write.tracking_events")
    assert partition == f"write.tracking_events_named_{answers[0]['eventId'][1]}"


@pytest.mark.parametrize("made_per_call", MADE_PER_CALL)
async def test_an_id_made_per_call_is_stored_once_for_each_timestamp(
    client: httpx.AsyncClient, stack: Stack, made_per_call: str
) -> None:
    answers = await send_on_each_route(client, made_per_call)

    # those without a usable time share a place that no time decides
    assert len({answer["eventId"] for answer in answers}) == 4
    assert await stack.write_value(COUNT) == 4
    assert await stack.write_value("select count(*) from write.tracking_events_undated") == 0


async def test_names_are_spread_over_all_parts_of_their_range(client: httpx.AsyncClient, stack: Stack) -> None:
    batch = [an_envelope(eventId=f"order-{number}") for number in range(1600)]

    await client.post(BATCH, json=batch)

    owner = await stack.write()
    rows = await owner.fetch("select tableoid::regclass::text as part, count(*) from write.tracking_events group by 1")
    assert {row["part"] for row in rows} == {f"write.tracking_events_named_{digit:x}" for digit in range(16)}
    assert max(row["count"] for row in rows) < 200


@pytest.mark.parametrize("at", [datetime(2025, 12, 24, 10, 30, tzinfo=UTC), None])
async def test_a_repeat_of_what_an_earlier_version_stored_is_found_in_its_place(
    stack: Stack, sender: Registered, at: datetime | None
) -> None:
    system, owner = sender.system_id, await stack.write()
    earlier = derive_dated_id(system, "order-1", at)
    event = an_event(system, earlier, message_id="order-1", original_timestamp=at)
    await owner.copy_records_to_table(
        "tracking_events",
        schema_name="write",
        columns=event._fields,
        records=[event._replace(event_properties="{}")],  # type: ignore[arg-type]
    )
    await owner.execute("insert into write.named_ids_since values (now())")
    time = None if at is None else at.isoformat()
    batch = [an_envelope(eventId=name, eventTimestamp=time) for name in ("order-1", "order-2", "order-1")]

    async with run_services(stack, "gateway") as services, http_client(base_url=services.url("gateway")) as client:
        headers = {"X-Api-Key": sender.api_key}
        single = (await client.post(INGEST, json=batch[0], headers=headers)).json()
        results = (await client.post(BATCH, json=batch, headers=headers)).json()["results"]

    assert single["duplicate"] is True
    assert [result["status"] for result in results] == ["duplicate", "accepted", "duplicate"]
    assert {single["eventId"], results[0]["eventId"], results[2]["eventId"]} == {str(earlier)}
    assert await stack.write_value(COUNT) == 2


async def test_a_database_without_earlier_events_is_not_asked_for_them(stack: Stack) -> None:
    assert await stack.write_value("select count(*) from write.named_ids_since") == 0


async def test_retention_empties_events_with_names_and_keeps_their_ids(client: httpx.AsyncClient, stack: Stack) -> None:
    now = datetime.now(UTC)
    batch = [
        an_envelope(eventId=f"order-{n}", eventTimestamp=(now - timedelta(days=180 * (n % 2))).isoformat())
        for n in range(100)
    ]
    assert (await client.post(BATCH, json=batch)).json()["accepted"] == 100
    owner = await stack.write()
    await owner.execute("update write.tracking_events set received_at = event_timestamp")
    await owner.execute("insert into write.retention (raw_since) values (now() - interval '90 days')")

    relay = await asyncpg.connect(stack.write_url("relay"))
    last: tuple[UUID | None, UUID | None] = (UUID(int=0), UUID(int=0))
    expired = 0
    while last[0] is not None:
        row = await relay.fetchrow("select * from write.expire_undated($1, $2, 7)", *last)
        assert row is not None
        last, expired = (row["last_system"], row["last_id"]), expired + row["expired"]
    await relay.close()

    assert expired == 50
    assert await stack.write_value(COUNT) == 100
    assert await stack.write_value(COUNT + " where event_name = '' and message_id is null") == 50


async def test_names_are_counted_and_rebuilt_as_other_events(stack: Stack, sender: Registered) -> None:
    start = datetime(2025, 12, 24, tzinfo=UTC)
    batch = [
        an_envelope(eventId=f"order-{n % 40}", eventTimestamp=(start + timedelta(hours=n)).isoformat())
        for n in range(60)
    ]
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        await send(services, sender, batch)
        await reach(stack, 40)
        await services.stop(*WORKERS)
        before = await content(stack)
        read = await stack.read()
        await read.execute("delete from read.tracking_events_read_model where abs(hashtext(id::text)) % 2 = 0")
        await read.execute("delete from read.event_counts_daily")

        repaired = await rebuild(stack)
        again = await rebuild(stack)

    assert await content(stack) == before
    await assert_exact(stack)
    assert repaired.result["repairedEvents"] > 0
    assert again.result["repairedEvents"] == again.result["repairedCounts"] == 0
