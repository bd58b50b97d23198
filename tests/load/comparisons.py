"""Compares the product with two alternatives in one run: the specification's design, and aggregates over raw events."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from statistics import median

import asyncpg
import httpx

from tests.load import measure, wrk
from tests.load.baseline import schema
from tests.load.environment import BenchEnvironment
from tests.load.growth.queries import shown
from tests.load.loader import load
from tests.load.loader.events import Year
from tests.load.measure import TrafficShape
from tests.load.report import BenchRow
from tests.support.backing_services import free_port
from tests.support.polling import until
from tests.support.read_model import add_token
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ROOT, ServiceProcesses, run_services
from tests.support.stack import Stack

_MONTH = timedelta(days=30)
_MILLISECOND = timedelta(milliseconds=1)

_RAW = """
select event_name, count(*) as total, count(*) filter (where is_valid) as valid
  from read.tracking_events_read_model
 where partner_system_id = $1
   and event_timestamp between $2 and $3
   and not is_bot
 group by event_name
"""


class Comparisons:
    """Ratios without an aim: more than 1 is better than the other."""

    remarks: Sequence[str] = ()

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        self.rounds = 1 if room.is_quick else 3
        self._events = 1_000_000
        self._samples = 20
        self._ways = [
            (way, BenchRow(f"{way.name}: ours ÷ the specification's own design", None))
            for way in (measure.SINGLES, measure.BATCHES)
        ]
        self._statistics = BenchRow("statistics of a month: raw aggregates ÷ ours, time", None, " ms")

    @property
    def rows(self) -> Sequence[BenchRow]:
        """Two ways in, one way out."""
        return *(row for _, row in self._ways), self._statistics

    async def round(self) -> None:
        """Measure the product and each alternative on the same servers."""
        async with self._room.stack() as stack:
            sender = await register_system(stack)
            async with (
                run_services(stack, "gateway", "relay", "projector", "statistics") as services,
                baseline(stack) as url,
            ):
                for way, row in self._ways:
                    await self._send(way, row, services, url, sender, stack)
        # a table that is loaded within a short round is so small that raw aggregates are quick as well
        if not self._statistics.measured and not self._room.is_quick:
            await self._ask()

    async def _send(
        self, way: TrafficShape, row: BenchRow, services: ServiceProcesses, url: str, sender: Registered, stack: Stack
    ) -> None:
        owner = await stack.write()
        seconds = self._room.seconds
        await measure.send(way, services, sender, 1)  # warm-up
        ours = await measure.send(way, services, sender, seconds)
        await until(lambda: _unapplied(stack), lambda waiting: waiting == 0, deadline_s=60)
        await measure.post(url + way.path, way.body(sender.api_key), way.connections, 1)
        before = await owner.fetchval("select count(*) from baseline.tracking_events")
        theirs = await measure.post(url + way.path, way.body(sender.api_key), way.connections, seconds)
        stored = await owner.fetchval("select count(*) from baseline.tracking_events") - before
        _require(theirs, way, stored)
        await until(lambda: _unpolled(owner), lambda waiting: waiting == 0, deadline_s=60)
        row.add(ours.per_second * way.events, theirs.per_second * way.events)
        self._room.say(
            f"{way.name}: ours {ours.per_second * way.events:8.0f}/s   theirs {theirs.per_second * way.events:8.0f}/s"
        )

    async def _ask(self) -> None:
        year = Year(self._events)
        async with self._room.stack() as stack:
            with load.bar() as progress:
                await asyncio.to_thread(load.load, stack.read_url(), year, progress)
            token = await add_token(stack, partner_id=year.partner_id)
            owner = await stack.read()
            dice = Random(1)  # noqa: S311
            ours_ms: list[float] = []
            raw_ms: list[float] = []
            async with (
                run_services(stack, "query") as services,
                httpx.AsyncClient(
                    base_url=services.url("query"), headers={"Authorization": f"Bearer {token}"}
                ) as client,
            ):
                path = f"/api/events/partner-system/{year.system_ids[0]}/statistics"
                for _ in range(self._samples):
                    start = year.start + _MILLISECOND * dice.randrange(
                        (year.stop - year.start - _MONTH) // _MILLISECOND
                    )
                    end = start + _MONTH
                    began = time.perf_counter()
                    answer = await client.get(path, params={"startDate": shown(start), "endDate": shown(end)})
                    ours_ms.append((time.perf_counter() - began) * 1000)
                    began = time.perf_counter()
                    rows = await owner.fetch(_RAW, year.system_ids[0], start, end)
                    raw_ms.append((time.perf_counter() - began) * 1000)
                    counted = sum(row["total"] for row in rows)
                    assert answer.json()["totalEvents"] == counted, f"{answer.text}, and {counted} events"
        self._statistics.add(median(raw_ms), median(ours_ms))
        self._room.say(f"a month of statistics: ours {median(ours_ms):.1f} ms   raw {median(raw_ms):.1f} ms")


@asynccontextmanager
async def baseline(stack: Stack) -> AsyncIterator[str]:
    """The address of the specification's own design, on the write database and Redis of `stack`."""
    await (await stack.write()).execute(schema.TABLES)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.load.baseline.app", str(port), stack.write_url(), stack.redis_url, cwd=ROOT
    )
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
        return (await client.get(url)).status_code == 404
    except httpx.TransportError:
        return False


async def _unapplied(stack: Stack) -> int:
    stored = await measure.count_stored(stack)
    counted = await measure.number(stack.read_url(), "select coalesce(sum(total), 0) from read.event_counts_hourly")
    projected = await measure.number(stack.read_url(), "select count(*) from read.tracking_events_read_model")
    return stored - min(counted, projected)


async def _unpolled(owner: "asyncpg.Connection[asyncpg.Record]") -> int:
    return int(
        await owner.fetchval(
            "select (select count(*) from baseline.tracking_events) "
            "     - (select count(*) from baseline.tracking_events_read_model)"
        )
    )


def _require(run: wrk.Run, way: TrafficShape, stored: int) -> None:
    # what was under way when wrk stopped, here and after the warm-up, is stored too, but not counted by it
    unanswered = 2 * way.connections * way.events
    acknowledged = run.requests * way.events
    assert acknowledged <= stored <= acknowledged + unanswered, f"{acknowledged} acknowledged, {stored} stored"
