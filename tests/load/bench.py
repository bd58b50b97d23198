"""`make bench`: ratios of speed measured inside one run, on servers of its own that are durable as a user's are.

Absolute numbers depend on the machine and the hour; the ratios are what is kept in docs/benchmarks.md. Rounds are
interleaved, the median is shown with the spread, and after each round what was acknowledged must be what is stored.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import psycopg
from rich.console import Console
from rich.table import Table

from tests.backing import Local, prepare
from tests.load import measure, wrk
from tests.polling import until
from tests.registry import Registered, register_system
from tests.services import ROOT, Services, running
from tests.stack import Stack, Templates, redis_numbers


@dataclass(slots=True)
class Ratio:
    """A row of the table: what is measured, over what, and the aim of the design."""

    name: str
    aim: float
    measured: list[float] = field(default_factory=list)
    yardstick: list[float] = field(default_factory=list)

    @property
    def values(self) -> list[float]:
        """One ratio a round."""
        return [a / b for a, b in zip(self.measured, self.yardstick, strict=True)]


class Bench:
    """The rounds; `say` gets a line for each step."""

    def __init__(self, backing: Local, templates: Templates, console: Console, *, is_quick: bool) -> None:
        self._backing = backing
        self._templates = templates
        self._numbers = redis_numbers(backing)
        self._console = console
        self._seconds = 3.0 if is_quick else 8.0
        self._drain_events = 40_000 if is_quick else 120_000
        self.rounds = 2 if is_quick else 5
        self.single = Ratio("single events: 202/s ÷ bare uvicorn requests/s", 0.50)
        self.batch = Ratio("batches of 200: events/s ÷ raw COPY of the same rows", 0.60)
        self.projector = Ratio("projector drain ÷ raw COPY into the read model", 0.85)
        self.statistics = Ratio("statistics drain ÷ projector drain", 4.0)
        self.latencies_ms: dict[str, list[float]] = {"single": [], "batch": []}
        self.generator_cores: dict[str, list[float]] = {"bare": [], "single": [], "batch": []}

    async def run(self) -> None:
        """All rounds."""
        for number in range(1, self.rounds + 1):
            self._console.print(f"round {number} of {self.rounds}")
            await self._ingest()
            await self._drains()

    def _stack(self) -> Stack:
        return Stack(self._backing, self._templates, self._numbers)

    async def _ingest(self) -> None:
        stack, twin = self._stack(), self._stack()
        try:
            sender = await register_system(stack)
            async with measure.bare_uvicorn() as bare, running(stack, "gateway") as services:
                body = json.dumps(measure.an_event(sender.api_key)).encode()
                await measure.singles(services, sender, 1)  # warm-up
                await measure.post(bare, body, measure.CONNECTIONS, 1)
                yardstick = await measure.post(bare, body, measure.CONNECTIONS, self._seconds)
                single = await measure.singles(services, sender, self._seconds)
                self._note("bare", yardstick)
                self._note("single", single)
                self.single.measured.append(single.per_second)
                self.single.yardstick.append(yardstick.per_second)
                self._console.print(f"  single {single.per_second:8.0f}/s   bare uvicorn {yardstick.per_second:8.0f}/s")
                await self._batches(services, sender, stack, twin)
        finally:
            await stack.close()
            await twin.close()

    async def _batches(self, services: Services, sender: Registered, stack: Stack, twin: Stack) -> None:
        await measure.batches(services, sender, 1)
        before = await measure.count_stored(stack)
        run = await measure.batches(services, sender, self._seconds)
        stored = await measure.count_stored(stack) - before
        # what was under way when wrk stopped, here and after the warm-up, is stored too, but not counted by it
        unanswered = 2 * measure.BATCH_CONNECTIONS * measure.BATCH
        acknowledged = run.requests * measure.BATCH
        assert acknowledged <= stored <= acknowledged + unanswered, f"{acknowledged} acknowledged, {stored} stored"
        copied = await measure.raw_copy_of_writes(stack, twin, int(run.per_second * measure.BATCH * 2))
        self._note("batch", run)
        self.batch.measured.append(run.per_second * measure.BATCH)
        self.batch.yardstick.append(copied)
        self._console.print(f"  batch  {run.per_second * measure.BATCH:8.0f}/s   raw COPY     {copied:8.0f}/s")

    async def _drains(self) -> None:
        stack, twin = self._stack(), self._stack()
        try:
            sender = await register_system(stack)
            async with running(stack, "gateway") as services:
                await self._fill(services, sender, stack)
                number = await measure.count_stored(stack)
                projected, group = await measure.drain(services, stack, "projector", number)
                tallied, _ = await measure.drain(services, stack, "statistics", number)
                await self._check(stack, number)
            copied = await measure.raw_copy_of_read_model(stack, twin, group, number)
            self.projector.measured.append(projected)
            self.projector.yardstick.append(copied)
            self.statistics.measured.append(tallied)
            self.statistics.yardstick.append(projected)
            self._console.print(
                f"  projector {projected:8.0f}/s (groups of {group})   raw COPY {copied:8.0f}/s   "
                f"statistics {tallied:8.0f}/s"
            )
        finally:
            await stack.close()
            await twin.close()

    async def _fill(self, services: Services, sender: Registered, stack: Stack) -> None:
        while await measure.count_stored(stack) < self._drain_events:
            await measure.batches(services, sender, 1)
        write = await stack.write()
        await until(
            lambda: write.fetchval("select count(*) from write.event_batches where published_at is null"),
            lambda unpublished: unpublished == 0,
        )

    async def _check(self, stack: Stack, number: int) -> None:
        read = await stack.read()
        projected = await read.fetchval("select count(distinct id) from read.tracking_events_read_model")
        counted = await read.fetchval("select sum(total) from read.event_counts_hourly")
        assert number == projected == counted, f"{number} stored, {projected} projected, {counted} counted"

    def _note(self, what: str, run: wrk.Run) -> None:
        self.generator_cores[what].append(run.cpu_s / run.seconds)
        if what in self.latencies_ms:
            self.latencies_ms[what].append(run.p99_ms)

    def ratios(self) -> Sequence[Ratio]:
        """In the order of the design."""
        return self.single, self.batch, self.projector, self.statistics


def table(bench: Bench) -> Table:
    """What is printed and kept."""
    shown = Table(title="ratios: median (lowest to highest round)")
    for name in ("ratio", "median", "spread", "aim", "measured", "yardstick"):
        shown.add_column(name, justify="left" if name == "ratio" else "right")
    for ratio in bench.ratios():
        values = ratio.values
        shown.add_row(
            ratio.name,
            f"{median(values):.2f}",
            f"{min(values):.2f} to {max(values):.2f}",
            f"≥ {ratio.aim:.2f}",
            f"{median(ratio.measured):,.0f}/s",
            f"{median(ratio.yardstick):,.0f}/s",
        )
    return shown


def machine(postgres_url: str) -> str:
    """Cores, kernel and versions in one line."""
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("show server_version").fetchone()
    cores = len(os.sched_getaffinity(0))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return (
        f"{cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"PostgreSQL {row[0] if row else '?'}, commit {commit.stdout.strip() or '?'}"
    )


async def measure_all(console: Console, *, is_quick: bool) -> dict[str, object]:
    """Run, print, and return the figures."""
    wrk.ensure()
    prepare("local", console.print)
    backing = Local(is_durable=True)
    templates = Templates(backing)
    try:
        about = machine(backing.postgres_url)
        console.print(about)
        bench = Bench(backing, templates, console, is_quick=is_quick)
        await bench.run()
        console.print(table(bench))
        for what, cores in bench.generator_cores.items():
            p99 = bench.latencies_ms.get(what)
            latency = f", p99 {median(p99):.0f} ms" if p99 else ""
            console.print(f"{what}: the load generator used {median(cores):.2f} of a core{latency}")
        return {"machine": about, "ratios": [asdict(ratio) for ratio in bench.ratios()]}
    finally:
        templates.close()
        backing.close()


def main() -> int:
    """Exit 0 when every gate held; a slow machine is no failure."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        default=bool(os.environ.get("QUICK")),
        help="two short rounds, under three minutes; or QUICK=1",
    )
    parser.add_argument("--json", default="bench.json", help="where the figures go")
    arguments = parser.parse_args()
    console = Console(width=130)
    figures = asyncio.run(measure_all(console, is_quick=arguments.quick))
    Path(arguments.json).write_text(json.dumps(figures, indent=2) + "\n")
    console.print(f"written to {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
