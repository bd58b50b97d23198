"""`make test-faults`: breaks each part of the system under load and compares its promises with the facts.

Everything runs on loopback, on servers that it starts itself. Exit 1 if anything was lost, doubled, miscounted or
answered wrongly.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from random import SystemRandom

from rich.console import Console
from rich.table import Table

from tests.faults.overload import Overload, run_overload
from tests.faults.run import FaultRow, run_fault
from tests.faults.scenarios import FAULTS, Fault
from tests.load.bench import machine
from tests.support.backing_services import LocalServices, prepare
from tests.support.stack import Stack, Templates, redis_numbers

OVERLOAD = "overload"


def table(rows: Sequence[FaultRow]) -> Table:
    """Return the report that is printed."""
    shown = Table(title="faults")
    shown.add_column("fault", no_wrap=True)
    for name in ("sent", "acknowledged", "refused", "unknown", "lost", "twice", "202 again s", "visible s", "p99 ms"):
        shown.add_column(name, justify="right")
    shown.add_column("else")
    for row in rows:
        counts = (row.sent, row.acknowledged, row.rejected, row.unknown, row.lost, row.twice)
        times = (_number(row.again_202_s, 2), _number(row.visible_s, 1), _number(row.p99_ms, 0))
        shown.add_row(row.fault, *map(str, counts), *times, "; ".join(text[:60] for text in row.other))
    return shown


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–" if math.isnan(value) else "never"


class Suite:
    """The chosen ones, one after the other, each on databases, a virtual host and processes of its own."""

    def __init__(self, name: str, seed: int, console: Console) -> None:
        """`name` is that of one, or empty for all; SystemExit if there is none of that name."""
        self._faults = [(number, fault) for number, fault in enumerate(FAULTS) if name in ("", fault.name)]
        self._has_overload = name in ("", OVERLOAD)
        if not self._faults and not self._has_overload:
            sys.exit(f"there is no fault {name!r}; there are {', '.join(fault.name for fault in FAULTS)}, {OVERLOAD}")
        self._seed = seed
        self._console = console
        self.about = ""
        self.rows: list[FaultRow] = []
        self.overload: Overload | None = None

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept."""
        return all(row.is_good for row in self.rows) and (self.overload is None or self.overload.is_good)

    async def run(self) -> None:
        """Fill `rows` and `overload`."""
        prepare("local", self._console.print)
        backing = LocalServices(is_durable=True)
        templates = Templates(backing)
        try:
            self.about = machine(backing.postgres_url)
            self._console.print(f"{self.about}; SEED={self._seed}")
            numbers = redis_numbers(backing)
            for number, fault in self._faults:
                async with _closing(Stack(backing, templates, numbers)) as stack:
                    await self._run_fault(fault, backing, stack, self._seed + number)
            if self._has_overload:
                async with _closing(Stack(backing, templates, numbers)) as stack:
                    self.overload = await run_overload(backing, stack, self._seed)
                self._console.print(self.overload.line(), markup=False)
                self._console.print("; ".join(self.overload.other), markup=False)
            templates.close()
        finally:
            backing.close()

    async def _run_fault(self, fault: Fault, backing: LocalServices, stack: Stack, seed: int) -> None:
        began = time.monotonic()
        row = await run_fault(fault, backing, stack, seed)
        self.rows.append(row)
        verdict = "good" if row.is_good else f"BAD: {row.lost} lost, {row.twice} twice, {'; '.join(row.other)}"
        self._console.print(f"{fault.name}: {verdict} ({time.monotonic() - began:.0f} s)", markup=False)

    def report(self) -> dict[str, object]:
        """For machines."""
        overload = _plain(self.overload) if self.overload else None
        rows = [_plain(row) for row in self.rows]
        return {"machine": self.about, "seed": self._seed, "faults": rows, "overload": overload}


def _plain(figures: FaultRow | Overload) -> dict[str, object]:
    """JSON knows neither NaN (not measured) nor infinity (never): both are null there, and `other` says why."""
    values = asdict(figures).items()
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values}


@asynccontextmanager
async def _closing(stack: Stack) -> AsyncIterator[Stack]:
    try:
        yield stack
    finally:
        await stack.close()


def main() -> int:
    """0 if every row is good."""
    parser = argparse.ArgumentParser(prog="make test-faults", description=__doc__)
    parser.add_argument("--fault", default=os.environ.get("FAULT", ""), help="run this one alone; or FAULT=")
    parser.add_argument("--seed", default=os.environ.get("SEED", ""), help="repeat a run's random choices; or SEED=")
    parser.add_argument("--json", default="faults.json", help="where the figures go")
    arguments = parser.parse_args()
    console = Console(width=160)
    seed = int(arguments.seed) if arguments.seed else SystemRandom().randrange(1_000_000)
    suite = Suite(arguments.fault, seed, console)
    asyncio.run(suite.run())
    console.print(table(suite.rows))
    Path(arguments.json).write_text(json.dumps(suite.report(), indent=2) + "\n")
    verdict = "nothing lost, nothing twice" if suite.is_good else "FAILED"
    console.print(f"{verdict}; SEED={seed}; written to {arguments.json}")
    return 0 if suite.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
