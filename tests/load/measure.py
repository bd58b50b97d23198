"""The measurements of events per second. Each checks that the counted events are stored."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from tests.load import wrk
from tests.support.backing_services import free_port
from tests.support.polling import until
from tests.support.registry import Registered
from tests.support.service_processes import ROOT, ServiceProcesses
from tests.support.stack import Stack
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import postgres

# in a month that has a partition of its own
TODAY = datetime.now(UTC).date()
BATCH = 200
CONNECTIONS = 256
NAMES = ("page_view", "page_view", "page_view", "button_click", "search", "add_to_cart", "purchase")
PROPERTIES = {
    "page": "/products/42",
    "referrer": "https://www.example.com/search?q=shoes",
    "price": 49.9,
    "currency": "EUR",
    "tags": ["new", "sale"],
    "screen": {"width": 1920, "height": 1080},
}


def an_event(api_key: str, number: int = 0) -> dict[str, Any]:
    """About 300 bytes, as SDKs send; the events of a batch differ in all that differs in life."""
    return {
        "apiKey": api_key,
        "eventName": NAMES[number % len(NAMES)],
        "eventTimestamp": f"{TODAY}T00:{number // 60 % 60:02}:{number % 60:02}.123Z",
        "userId": f"user_{12345 + number // 5}",
        "anonymousId": f"anon_{67890 + number // 5}",
        "eventProperties": PROPERTIES | {"page": f"/products/{number}", "price": 49.9 + number},
    }


@asynccontextmanager
async def bare_uvicorn() -> AsyncIterator[str]:
    """The address of the yardstick."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.load.bare_uvicorn", str(port), cwd=ROOT)
    try:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient() as client:
            await until(lambda: _answers(client, url), bool)
        yield url
    finally:
        process.terminate()
        await process.wait()


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.post(url)).status_code == 202
    except httpx.TransportError:
        return False


async def post(url: str, body: bytes, connections: int, seconds: float, pause_ms: int = 0) -> wrk.Run:
    """wrk in a thread, so that the event loop stays free. AssertionError if anything but 202 came back."""
    run = await asyncio.to_thread(wrk.post, url, body, connections=connections, seconds=seconds, pause_ms=pause_ms)
    assert run.other == run.broken == 0, f"{run.other} answers that were not 202, {run.broken} broken connections"
    return run


@dataclass(frozen=True, slots=True)
class TrafficShape:
    """A way of sending: how many events a request has, and how many connections send at once."""

    name: str
    path: str
    events: int
    connections: int

    def body(self, api_key: str) -> bytes:
        """One request."""
        if self.events == 1:
            return json.dumps(an_event(api_key)).encode()
        events = [an_event(api_key, number) for number in range(self.events)]
        for event in events:
            del event["apiKey"]
        return json.dumps({"apiKey": api_key, "events": events}).encode()

    def pause_ms(self, per_second: float) -> float:
        """How long each connection has to wait for about so many events a second in all, while answers take no time."""
        return 1000 * self.connections * self.events / per_second


SINGLES = TrafficShape("single events", "/api/events/ingest", 1, CONNECTIONS)
BATCHES = TrafficShape("batches of 200", "/api/events/batch", BATCH, 16)


async def send(
    way: TrafficShape, services: ServiceProcesses, sender: Registered, seconds: float, pause_ms: float = 0
) -> wrk.Run:
    """Requests to the gateway; see `post`."""
    url = services.url("gateway") + way.path
    return await post(url, way.body(sender.api_key), way.connections, seconds, round(pause_ms))


async def singles(services: ServiceProcesses, sender: Registered, seconds: float) -> wrk.Run:
    """Single events to the gateway."""
    return await send(SINGLES, services, sender, seconds)


async def batches(services: ServiceProcesses, sender: Registered, seconds: float) -> wrk.Run:
    """Batches of 200 to the gateway."""
    return await send(BATCHES, services, sender, seconds)


async def number(url: str, question: str) -> int:
    """Return the number that a statement counts. The connection is closed each time, as callers poll for long."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(question))
    finally:
        await connection.close()


async def count_stored(stack: Stack) -> int:
    """Events in the write database."""
    return await number(stack.write_url(), "select count(*) from write.tracking_events")


async def check_read_model(stack: Stack, stored: int) -> None:
    """AssertionError unless the read model and the counts hold each of so many events once."""
    read = await stack.read()
    projected = await read.fetchval("select count(distinct id) from read.tracking_events_read_model")
    rows = await read.fetchval("select count(*) from read.tracking_events_read_model")
    by_hour = await read.fetchval("select sum(total) from read.event_counts_hourly")
    by_day = await read.fetchval("select sum(valid + invalid) from read.event_counts_daily")
    counted = f"{by_hour} counted by hour, {by_day} by day"
    assert stored == projected == rows == by_hour == by_day, f"{stored} stored, {projected} projected, {counted}"


async def raw_copy_of_writes(source: Stack, target: Stack, most_events: int) -> float:
    """Events/s of plain COPY: the rows the gateway stored, in the transactions it made of them, into the same table."""
    owner = await source.write()
    await postgres.prepare_connection(owner)
    groups: list[list[tuple[Any, ...]]] = []
    events = 0
    claims = await owner.fetch("select event_ids from write.event_batches order by id desc limit 2000")
    for claim in claims:
        rows = await owner.fetch("select * from write.tracking_events where id = any($1::uuid[])", claim["event_ids"])
        groups.append([tuple(row.values()) for row in rows])
        events += len(rows)
        if events >= most_events:
            break
    return await _copy(target.write_url(), "write", "tracking_events", TrackingEvent._fields, groups)


async def raw_copy_of_read_model(source: Stack, target: Stack, group_events: int, most_events: int) -> float:
    """Events/s of plain COPY: the rows the projector wrote, in groups as large as its own, into the same table."""
    owner = await source.read()
    await postgres.prepare_connection(owner)
    rows = await owner.fetch("select * from read.tracking_events_read_model order by id limit $1", most_events)
    columns = tuple(rows[0].keys())
    records = [tuple(row.values()) for row in rows]
    groups = [records[start : start + group_events] for start in range(0, len(records), group_events)]
    return await _copy(target.read_url(), "read", "tracking_events_read_model", columns, groups)


async def _copy(
    url: str, schema: str, table: str, columns: Sequence[str], groups: Sequence[Sequence[tuple[Any, ...]]]
) -> float:
    connection = await asyncpg.connect(url)
    try:
        await postgres.prepare_connection(connection)
        await connection.execute(f"truncate {schema}.{table}")
        started = time.perf_counter()
        for group in groups:
            async with connection.transaction():
                await connection.copy_records_to_table(table, schema_name=schema, columns=columns, records=group)
        seconds = time.perf_counter() - started
    finally:
        await connection.close()
    return sum(len(group) for group in groups) / seconds


async def drain(services: ServiceProcesses, stack: Stack, consumer: str, events: int) -> tuple[float, int]:
    """Events/s with which a worker empties a queue of `events`, and how many events its groups had.

    Measured between its first and its last transaction, so without its start; the last one's events do not count.
    """
    read = await stack.read()
    await services.start(consumer)

    async def applied_batches() -> int:
        rows = await read.fetchrow("select count(*) as n from read.applied_batches where consumer = $1", consumer)
        return int(rows["n"]) if rows else 0

    write = await stack.write()
    committed = int(await write.fetchval("select count(*) from write.event_batches"))
    await until(applied_batches, lambda applied: applied >= committed, deadline_s=300)
    groups = await read.fetch(
        "select applied_at, array_agg(batch_id) as ids from read.applied_batches where consumer = $1 "
        "group by 1 order by 1",
        consumer,
    )
    seconds = (groups[-1]["applied_at"] - groups[0]["applied_at"]).total_seconds()
    last = await _events_of(write, groups[-1]["ids"])
    await services.stop(consumer)
    return (events - last) / seconds, max(1, events // len(groups))


async def _events_of(write: Any, batch_ids: Sequence[UUID]) -> int:
    return int(
        await write.fetchval(
            "select sum(cardinality(event_ids)) from write.event_batches where id = any($1)", batch_ids
        )
    )
