"""The bytes of WAL and disk that an event costs in both databases when it comes in through gateway and workers."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx

from tests.load import measure
from tests.load.environment import BenchEnvironment
from tests.load.growth import storage
from tests.load.loader.events import EVENTS_A_VISITOR, NAMES
from tests.load.report import BenchRow
from tests.support.polling import until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

_AT_A_TIME = 8
# the client's own name would be a bot's
_BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
_PARENTS = {"write": ("tracking_events", "event_batches"), "read": ("tracking_events_read_model", "applied_batches")}


class Storage:
    """No aims: the figures are for planning a disk."""

    rounds = 1

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        self._events = 10_000 if room.is_quick else 100_000
        self._wal = {
            "write": BenchRow("write side: WAL an event, gateway in batches of 200", None, " B"),
            "projector": BenchRow("read side: WAL an event, projector", None, " B"),
            "statistics": BenchRow("read side: WAL an event, statistics", None, " B"),
        }
        self._remarks: list[str] = []

    @property
    def rows(self) -> Sequence[BenchRow]:
        """WAL alone; sizes are remarks."""
        return tuple(self._wal.values())

    @property
    def remarks(self) -> Sequence[str]:
        """Tables and indexes."""
        return self._remarks

    async def round(self) -> None:
        """One side after the other, each between two positions of the WAL."""
        async with self._room.stack() as stack:
            sender = await register_system(stack)
            await _make_partitions(stack)
            async with run_services(stack, "gateway") as services:
                before = await _position(stack)
                await self._send(services, sender)
                await _published(stack)
                self._note("write", before, await _position(stack))
                assert await measure.count_stored(stack) == self._events
                for worker in ("projector", "statistics"):
                    before = await _position(stack)
                    await measure.drain(services, stack, worker, self._events)
                    self._note(worker, before, await _position(stack))
                await measure.check_read_model(stack, self._events)
            lines = [storage.of_table(stack.write_url(), f"write.{table}", self._events) for table in _PARENTS["write"]]
            lines += storage.of_read_model(stack.read_url(), self._events)
            lines.append(storage.of_table(stack.read_url(), "read.applied_batches", self._events))
            self._remarks += [f"storage: {line}" for line in lines]

    def _note(self, what: str, before: int, after: int) -> None:
        self._wal[what].add((after - before) / self._events)

    async def _send(self, services: ServiceProcesses, sender: Registered) -> None:
        url = f"{services.url('gateway')}/api/events/batch"
        bodies = _bodies(sender, self._events)

        async def send(client: httpx.AsyncClient) -> None:
            for body in bodies:
                response = await client.post(url, content=body)
                assert response.status_code == 202, response.text

        async with httpx.AsyncClient(timeout=30, headers=_BROWSER) as client, asyncio.TaskGroup() as senders:
            for _ in range(_AT_A_TIME):
                senders.create_task(send(client))


def _bodies(sender: Registered, events: int) -> Iterator[bytes]:
    """Batches of events of different visitors within the last minute, otherwise as `measure.an_event`."""
    dice = Random(1)  # noqa: S311
    visitors = events // EVENTS_A_VISITOR
    now = datetime.now(UTC)
    for _ in range(events // measure.BATCH):
        batch: list[dict[str, Any]] = []
        for _ in range(measure.BATCH):
            event = measure.an_event(sender.api_key)
            del event["apiKey"]
            visitor = dice.randrange(visitors)
            at = now - timedelta(milliseconds=dice.randrange(60_000))
            event["eventName"] = dice.choice(NAMES)
            event["eventTimestamp"] = at.isoformat(timespec="milliseconds")
            event["anonymousId"] = f"anon_{visitor:08d}"
            event["userId"] = f"user_{visitor:08d}"
            if dice.random() < 1 / 3:
                del event["userId"]
            batch.append(event)
        yield json.dumps({"apiKey": sender.api_key, "events": batch}).encode()


async def _make_partitions(stack: Stack) -> None:
    """As the relay does, which is not started: it writes once a second, and only events are to be measured."""
    write, read = await stack.write(), await stack.read()
    today = datetime.now(UTC).date()
    for connection, schema in ((write, "write"), (read, "read")):
        for parent in _PARENTS[schema]:
            await connection.execute(f"select {schema}.create_partition($1, $2)", parent, today)


async def _published(stack: Stack) -> None:
    write = await stack.write()
    await until(
        lambda: write.fetchval("select count(*) from write.event_batches where published_at is null"),
        lambda unpublished: unpublished == 0,
    )


async def _position(stack: Stack) -> int:
    """Bytes of WAL since ever, after a checkpoint; both databases write the same WAL."""
    owner = await stack.write()
    await owner.execute("checkpoint")
    return int(await owner.fetchval("select pg_current_wal_lsn() - '0/0'::pg_lsn"))
