"""Measures whether query stays fast as data grows: the same requests to two read models, one ten times the other.

Each question goes to both in turn over HTTP, never from the cache; what it reads is explained afterwards.
"""

import asyncio
import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from random import Random
from statistics import median, quantiles
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from rich.console import Console
from rich.table import Table

from services.query.parameters import StatisticsParameters
from tests.load.environment import BenchEnvironment
from tests.load.growth import storage as growth_storage
from tests.load.growth.plans import Reading, plans
from tests.load.growth.queries import DEEP_PAGE, FIRST_PAGE, QUESTIONS, STATISTICS, GrowthSample, Question
from tests.load.loader import load
from tests.load.loader.events import Year
from tests.load.report import BenchRow
from tests.support.read_model import add_token
from tests.support.service_processes import run_services
from tests.support.stack import Stack

TIMES_AS_MANY = 10
# events of the larger side that the aims of the design are for
_AIMED_AT = 10_000_000
# of the machine's disk: a row with its indexes, WAL between checkpoints, room to sort
_BYTES_AN_EVENT, _BYTES_BESIDE = 950, 6 << 30
_MAX_SAMPLES, _FEWEST_SAMPLES = 200, 3
_WARM_UPS = 3
_MAX_S = 300

_COUNT = """
select count(*)
  from read.tracking_events_read_model
 where partner_system_id = %s
   and event_timestamp between %s and %s
   and not is_bot
"""


@dataclass(slots=True)
class GrowthSide:
    """A read model of one size, with a query service of its own."""

    known: GrowthSample
    url: str
    owner_url: str
    client: http.client.HTTPConnection
    token: str
    query_url: str
    storage: Sequence[str]
    times_ms: dict[str, list[float]] = field(default_factory=dict)
    reads: dict[str, Reading] = field(default_factory=dict)

    @property
    def size(self) -> str:
        """As `10 M`."""
        return shortly(self.known.year.events)

    def ask(self, question: Question, number: int) -> tuple[float, str, bytes]:
        """How many ms it took, what was asked, and the answer. AssertionError unless it is 200."""
        path = question.path(self.known, Random(number))  # noqa: S311
        started = time.perf_counter()
        self.client.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        response = self.client.getresponse()
        body = response.read()
        taken_ms = (time.perf_counter() - started) * 1000
        assert response.status == 200, body
        return taken_ms, path, body


def shortly(events: int) -> str:
    """`100 k`, `10 M`."""
    return f"{events / 1_000_000:g} M" if events >= 1_000_000 else f"{events / 1000:g} k"


class Growth:
    """The last two rows of the design, and the same for every other question."""

    rounds = 1

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        large = int(os.environ.get("EVENTS") or (200_000 if room.is_quick else 10_000_000))
        self._sizes = (large // TIMES_AS_MANY, large)
        self._seconds = 0.3 if room.is_quick else 15.0
        # below that, counts by day are fewer where events are fewer, so a tenth of them is no measure of growth
        p99, ratio = (50, 1.2) if large >= _AIMED_AT else (None, None)
        sizes = f"{shortly(large)} ÷ {shortly(large // TIMES_AS_MANY)}"
        self._p99 = {
            question.name: BenchRow(
                f"{question.name}, uncached, {shortly(large)} events: p99", p99, " ms", is_ceiling=True
            )
            for question in STATISTICS
        }
        self._ratios = {
            question.name: BenchRow(f"{question.name}: time at {sizes}", ratio, " ms", is_ceiling=True)
            for question in (*STATISTICS, FIRST_PAGE, DEEP_PAGE)
        }
        self._remarks: list[str] = []

    @property
    def rows(self) -> Sequence[BenchRow]:
        """In the order of the design."""
        return (*self._p99.values(), *self._ratios.values())

    @property
    def remarks(self) -> Sequence[str]:
        """All questions, which months they open, and storage."""
        return self._remarks

    async def round(self) -> None:
        """Load both, ask both in turn, explain."""
        _require_disk(sum(self._sizes))
        async with AsyncExitStack() as opened:
            sides = [await opened.enter_async_context(self._side(events)) for events in self._sizes]
            for question in QUESTIONS:
                await asyncio.to_thread(self._measure, sides, question)
                small, large = (median(side.times_ms[question.name]) for side in sides)
                self._room.say(f"{question.name:<26} {small:8.1f} ms   {large:8.1f} ms   {large / small:.2f}")
            for side in sides:
                await self._explain(side)
        self._note(*sides)

    @asynccontextmanager
    async def _side(self, events: int) -> AsyncIterator[GrowthSide]:
        year = Year(events)
        async with self._room.stack() as stack:
            loaded = await self._load(stack, year)
            self._room.say(
                f"{shortly(events)} events: COPY {loaded.copy_s:.0f} s ({events / loaded.copy_s:,.0f}/s), indexes "
                f"{loaded.index_s:.0f} s, counts and vacuum {loaded.vacuum_s:.0f} s"
            )
            token = await add_token(stack, partner_id=year.partner_id)
            patience = {"TRACKING_QUERY_TIMEOUT_S": str(_MAX_S)}
            async with run_services(stack, "query", settings=patience) as services:
                url = services.url("query")
                client = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_MAX_S)
                storage = growth_storage.of_read_model(stack.read_url(), events)
                yield GrowthSide(
                    await GrowthSample.of(stack, year),
                    url,
                    stack.read_url(),
                    client,
                    token,
                    stack.read_url("query"),
                    storage,
                )
                client.close()

    async def _load(self, stack: Stack, year: Year) -> load.Loaded:
        with load.bar() as progress:
            loaded = await asyncio.to_thread(load.load, stack.read_url(), year, progress)
        await asyncio.to_thread(load.check, stack.read_url(), year)
        owner = await stack.read()
        await owner.execute("checkpoint")
        return loaded

    def _measure(self, sides: Sequence[GrowthSide], question: Question) -> None:
        for side in sides:
            for number in range(_WARM_UPS):
                _, path, body = side.ask(question, _MAX_SAMPLES + number)
                if question.is_statistics and number == 0:
                    _compare(side, path, body)
        deadline = time.monotonic() + self._seconds
        for number in range(_MAX_SAMPLES):
            if number >= _FEWEST_SAMPLES and time.monotonic() > deadline:
                break
            for side in sides if number % 2 else reversed(sides):
                taken_ms, _, body = side.ask(question, number)
                if question.is_statistics:
                    assert json.loads(body)["meta"]["cached"] is False
                side.times_ms.setdefault(question.name, []).append(taken_ms)

    async def _explain(self, side: GrowthSide) -> None:
        async with plans(side.query_url, side.token) as explained:
            for question in QUESTIONS:
                path = question.path(side.known, Random(0))  # noqa: S311
                side.reads[question.name] = await explained.reading(path)

    def _note(self, small: GrowthSide, large: GrowthSide) -> None:
        for name, row in self._p99.items():
            row.add(percentile_99(large.times_ms[name]))
        for name, row in self._ratios.items():
            row.add(median(large.times_ms[name]), median(small.times_ms[name]))
        self._remarks += _lines(_table(small, large))
        self._remarks.append(
            f"growth: a page at depth begins after {shortly(small.known.depth)} and {shortly(large.known.depth)} events"
        )
        for name in ("statistics of a month", FIRST_PAGE.name, DEEP_PAGE.name, "first page of a year"):
            months = ", ".join(sorted(large.reads[name].months)) or "none"
            self._remarks.append(f"growth: of 12 months and the default, {name} opened {months}")
        for side in (small, large):
            self._remarks += [f"growth: {side.size}, loaded: {line}" for line in side.storage]


def percentile_99(values: Sequence[float]) -> float:
    """The highest of fewer than a hundred."""
    return quantiles(values, n=100, method="inclusive")[98] if len(values) >= 100 else max(values)


def _compare(side: GrowthSide, path: str, body: bytes) -> None:
    """AssertionError unless the statistics are a count of the events."""
    asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    parameters = StatisticsParameters.model_validate(asked)
    with psycopg.connect(side.owner_url) as connection:
        span = (side.known.year.system_ids[0], parameters.start_date, parameters.end_date)
        (number,) = connection.execute(_COUNT, span).fetchone() or (None,)
    assert json.loads(body)["totalEvents"] == number, f"{path}: {number} events, and the answer is {body!r}"


def _require_disk(events: int) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    needed = events * _BYTES_AN_EVENT + _BYTES_BESIDE
    if free < needed:
        raise SystemExit(f"{events:,} events need {needed / 1e9:.0f} GB of disk, {free / 1e9:.0f} are free")


def _table(small: GrowthSide, large: GrowthSide) -> Table:
    shown = Table(title="growth: over HTTP, one request at a time, uncached")
    shown.add_column("question")
    for side in (small, large):
        for name in ("p50 ms", "p99 ms", "samples", "pages read"):
            shown.add_column(f"{side.size}\n{name}", justify="right")
    shown.add_column("p50 ÷", justify="right")
    for question in QUESTIONS:
        cells: list[str] = []
        for side in (small, large):
            times = side.times_ms[question.name]
            reading = side.reads[question.name]
            cells += [f"{median(times):.1f}", f"{percentile_99(times):.1f}", str(len(times)), f"{reading.buffers:,}"]
        ratio = median(large.times_ms[question.name]) / median(small.times_ms[question.name])
        shown.add_row(question.name, *cells, f"{ratio:.2f}")
    return shown


def _lines(shown: Table) -> list[str]:
    console: Any = Console(file=StringIO(), width=130)
    console.print(shown)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]
