"""Measures how fast one gateway stores events: single events compared with bare uvicorn, batches with raw COPY."""

import json
from collections.abc import Sequence
from statistics import median

from tests.load import measure, wrk
from tests.load.environment import BenchEnvironment
from tests.load.report import BenchRow
from tests.support.registry import register_system
from tests.support.service_processes import run_services


class Ingest:
    """The first two ratios of the design."""

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        self.rounds = 1 if room.is_quick else 5
        self._single = BenchRow("single events: 202/s ÷ bare uvicorn requests/s", 0.50)
        self._batch = BenchRow("batches of 200: events/s ÷ raw COPY of the same rows", 0.60)
        self._p99_ms: dict[str, list[float]] = {"single": [], "batch": []}
        self._generator_cores: dict[str, list[float]] = {"bare": [], "single": [], "batch": []}

    @property
    def rows(self) -> Sequence[BenchRow]:
        """In the order of the design."""
        return self._single, self._batch

    @property
    def remarks(self) -> Sequence[str]:
        """The generator's own use, so that it is seen not to be the limit, and the time of an answer at the limit."""
        lines = []
        for what, cores in self._generator_cores.items():
            p99 = self._p99_ms.get(what)
            latency = f", p99 {median(p99):.0f} ms" if p99 else ""
            lines.append(f"{what}: the load generator used {median(cores):.2f} of a core{latency}")
        return lines

    async def round(self) -> None:
        """Both ways of sending, each beside its yardstick and on a stack of its own."""
        await self._round_of_singles()
        await self._round_of_batches()

    async def _round_of_singles(self) -> None:
        async with self._room.stack() as stack:
            sender = await register_system(stack)
            async with measure.bare_uvicorn() as bare, run_services(stack, "gateway") as services:
                body = json.dumps(measure.an_event(sender.api_key)).encode()
                await measure.singles(services, sender, 1)  # warm-up
                await measure.post(bare, body, measure.CONNECTIONS, 1)
                yardstick = await measure.post(bare, body, measure.CONNECTIONS, self._room.seconds)
                before = await measure.count_stored(stack)
                single = await measure.singles(services, sender, self._room.seconds)
                _require(single.requests, await measure.count_stored(stack) - before, measure.CONNECTIONS)
        self._note("bare", yardstick)
        self._note("single", single)
        self._single.add(single.per_second, yardstick.per_second)
        self._room.say(f"single {single.per_second:8.0f}/s   bare uvicorn {yardstick.per_second:8.0f}/s")

    async def _round_of_batches(self) -> None:
        async with self._room.stack() as stack, self._room.stack() as twin:
            sender = await register_system(stack)
            async with run_services(stack, "gateway") as services:
                await measure.batches(services, sender, 1)  # warm-up
                before = await measure.count_stored(stack)
                run = await measure.batches(services, sender, self._room.seconds)
                stored = await measure.count_stored(stack) - before
            _require(run.requests * measure.BATCH, stored, measure.BATCHES.connections * measure.BATCH)
            copied = await measure.raw_copy_of_writes(stack, twin, int(run.per_second * measure.BATCH * 2))
        self._note("batch", run)
        self._batch.add(run.per_second * measure.BATCH, copied)
        self._room.say(f"batch  {run.per_second * measure.BATCH:8.0f}/s   raw COPY     {copied:8.0f}/s")

    def _note(self, what: str, run: wrk.Run) -> None:
        self._generator_cores[what].append(run.cpu_s / run.seconds)
        if what in self._p99_ms:
            self._p99_ms[what].append(run.p99_ms)


def _require(acknowledged: int, stored: int, at_once: int) -> None:
    # what was under way when wrk stopped, here and after the warm-up, is stored too, but not counted by it
    assert acknowledged <= stored <= acknowledged + 2 * at_once, f"{acknowledged} acknowledged, {stored} stored"
