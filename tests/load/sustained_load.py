"""Measures the load that all processes together sustain from ingest to counts, and how soon an event is visible."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import linear_regression, median, quantiles
from uuid import uuid4

import httpx

from tests.load import measure
from tests.load.environment import BenchEnvironment
from tests.load.measure import TrafficShape
from tests.load.report import BenchRow
from tests.support.polling import until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

SERVICES = ("gateway", "relay", "projector", "statistics", "query", "admin")
# the next load to try, of the one that stayed flat or of what went through meanwhile
_FASTER, _SLOWER = 1.15, 0.95
# a growing load so near to a flat one is not worth another try between them
_NEAR = 1.05
_SAMPLE_EVERY_S = 0.25
# what a load that can go on for ever may leave waiting at its end, and how much it may grow in the second half
_MAX_WAITING_S = 1.0
_MAX_GROWTH_S = 0.25
_LOOK_INTERVAL_S = 0.005
_LOOKED_FOR = 150

_COMMITTED = "select count(*) from write.event_batches"
_APPLIED = """
select coalesce(min(batches), 0)
  from (select (select count(*) from read.applied_batches where consumer = name) as batches
          from unnest(array['projector', 'statistics']) as name) as each_consumer
"""


@dataclass(frozen=True, slots=True)
class LoadStep:
    """The result of one offered load; the backlog is given in seconds of that load."""

    per_second: float
    waiting_s: float
    growth_s: float
    answer_ms: float

    @property
    def is_flat(self) -> bool:
        """Whether it could go on for ever."""
        return self.waiting_s <= _MAX_WAITING_S and self.growth_s <= _MAX_GROWTH_S


class Sustained:
    """The highest load tried at which the backlog stays flat; then half of it, with single events looked for."""

    rounds = 1

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        self._seconds = 2.0 if room.is_quick else 12.0
        self._tries = 3 if room.is_quick else 6
        # the third: how much of a request's time is pause at that load, the rest is the answer's
        self._aims = ((measure.BATCHES, 30_000.0, 0.5), (measure.SINGLES, 10_000.0, 0.25))
        self._sustained = [
            BenchRow(f"everything on, {way.name}: events/s, backlog flat", aim) for way, aim, _ in self._aims
        ]
        self._visible = [
            BenchRow(f"half of that load, {way.name}: 202 to visible in query, p99", 1_000, " ms", is_ceiling=True)
            for way, _, _ in self._aims
        ]
        self._remarks: list[str] = []

    @property
    def rows(self) -> Sequence[BenchRow]:
        """In the order of the design."""
        return *self._sustained, *self._visible

    @property
    def remarks(self) -> Sequence[str]:
        """The middle of what was seen."""
        return self._remarks

    async def round(self) -> None:
        """Each way of sending on a stack of its own, with every event accounted for in the end."""
        for (way, aim, pause), sustained, visible in zip(self._aims, self._sustained, self._visible, strict=True):
            async with self._room.stack() as stack:
                sender = await register_system(stack)
                async with run_services(stack, *SERVICES) as services:
                    await measure.send(way, services, sender, 2)  # warm-up
                    best = await self._search(way, way.pause_ms(aim) * pause, services, sender, stack)
                    sustained.add(best)
                    await _drained(stack)  # of what the last try left, which was not of this load
                    seen_ms = await self._look(way, best / 2, services, sender)
                    visible.add(quantiles(seen_ms, n=100)[98])
                    self._remarks.append(
                        f"visible in query, {way.name}: {len(seen_ms)} looked for, median {median(seen_ms):.0f} ms, "
                        f"longest {max(seen_ms):.0f} ms"
                    )
                    await _drained(stack)
                    await measure.check_read_model(stack, await measure.count_stored(stack))

    async def _search(
        self, way: TrafficShape, pause_ms: float, services: ServiceProcesses, sender: Registered, stack: Stack
    ) -> float:
        """Offer more while the backlog is flat, less until it is, then half-way between; the highest flat load."""
        flat, grew = 0.0, math.inf
        for attempt in range(1, 2 * self._tries):
            await _drained(stack)
            one = await self._try(way, pause_ms, services, sender, stack)
            self._room.say(
                f"{way.name}: {one.per_second:8.0f}/s, {one.waiting_s:.2f} s of it waiting at the end, "
                f"{one.growth_s:+.2f} s in the second half{'' if one.is_flat else ': not flat'}"
            )
            if one.is_flat:
                flat = max(flat, one.per_second)
            else:
                grew = min(grew, one.per_second)
            if flat and (attempt >= self._tries or grew < flat * _NEAR or pause_ms < 1):
                break
            if flat:
                wanted = flat * _FASTER if grew == math.inf else (flat + grew) / 2
            else:
                wanted = one.per_second * _SLOWER * (1 - one.waiting_s / self._seconds)
            pause_ms = max(way.pause_ms(wanted) - one.answer_ms, 0)
        assert flat, f"{way.name}: the backlog grew at every load tried"
        return flat

    async def _try(
        self, way: TrafficShape, pause_ms: float, services: ServiceProcesses, sender: Registered, stack: Stack
    ) -> LoadStep:
        before, began = await measure.number(stack.write_url(), _COMMITTED), time.perf_counter()
        sending = asyncio.create_task(measure.send(way, services, sender, self._seconds, pause_ms))
        await asyncio.sleep(self._seconds / 2)
        # the second half again and again: two moments alone say more of a checkpoint than of the load
        at_s: list[float] = []
        waiting: list[float] = []
        while not sending.done():
            at_s.append(time.perf_counter() - began)
            waiting.append(await _waiting(stack))
            await asyncio.wait((sending,), timeout=_SAMPLE_EVERY_S)
        run = await sending
        at_end = await _waiting(stack)
        batches = await measure.number(stack.write_url(), _COMMITTED) - before
        a_batch_s = (time.perf_counter() - began) / batches
        per_second = run.per_second * way.events
        return LoadStep(
            per_second,
            waiting_s=at_end * a_batch_s,
            growth_s=linear_regression(at_s, waiting).slope * (at_s[-1] - at_s[0]) * a_batch_s,
            answer_ms=way.pause_ms(per_second) - pause_ms,
        )

    async def _look(
        self, way: TrafficShape, per_second: float, services: ServiceProcesses, sender: Registered
    ) -> list[float]:
        """Milliseconds from the answer to an event until query shows it, under a load of so many events a second."""
        seen_ms: list[float] = []
        seconds = self._seconds if self._room.is_quick else 2 * self._seconds
        sending = asyncio.create_task(measure.send(way, services, sender, seconds, way.pause_ms(per_second)))
        reader = {"Authorization": f"Bearer {services.admin_token}"}
        async with httpx.AsyncClient(timeout=10) as client:
            while not sending.done() and len(seen_ms) < _LOOKED_FOR:
                event = measure.an_event(sender.api_key) | {"eventId": str(uuid4())}
                answer = await client.post(f"{services.url('gateway')}/api/events/ingest", json=event)
                answered = time.perf_counter()
                assert answer.status_code == 202, answer.text
                event_url = f"{services.url('query')}/api/events/{answer.json()['eventId']}"
                await until(
                    partial(client.get, event_url, headers=reader),
                    lambda found: found.is_success,
                    every_s=_LOOK_INTERVAL_S,
                )
                seen_ms.append((time.perf_counter() - answered) * 1000)
                await asyncio.sleep(seconds / _LOOKED_FOR / 2)
        await sending
        return seen_ms


async def _waiting(stack: Stack) -> int:
    """Batches that are committed and not yet both in the read model and counted."""
    committed = await measure.number(stack.write_url(), _COMMITTED)
    return max(0, committed - await measure.number(stack.read_url(), _APPLIED))


async def _drained(stack: Stack) -> None:
    await until(lambda: _waiting(stack), lambda waiting: waiting == 0, deadline_s=120)
