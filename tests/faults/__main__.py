"""`make test-faults`: breaks each part of the system under load and compares what was promised with what is there.

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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import SystemRandom

from rich.console import Console
from rich.table import Table

from tests.backing import Local, prepare
from tests.faults.faults import FAULTS, Fault
from tests.faults.run import Row, run_fault
from tests.load.bench import machine
from tests.stack import Stack, Templates, redis_numbers


def table(rows: Sequence[Row]) -> Table:
    """What is printed."""
    shown = Table(title="faults")
    shown.add_column("fault", no_wrap=True)
    for name in ("sent", "acknowledged", "refused", "unknown", "lost", "twice", "202 again s", "visible s", "p99 ms"):
        shown.add_column(name, justify="right")
    shown.add_column("else")
    for row in rows:
        counts = (row.sent, row.acknowledged, row.refused, row.unknown, row.lost, row.twice)
        times = (_number(row.again_202_s, 2), _number(row.visible_s, 1), _number(row.p99_ms, 0))
        shown.add_row(row.fault, *map(str, counts), *times, "; ".join(text[:60] for text in row.other))
    return shown


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _chosen(name: str) -> tuple[Fault, ...]:
    chosen = tuple(fault for fault in FAULTS if name in ("", fault.name))
    if not chosen:
        sys.exit(f"there is no fault {name!r}; there are {', '.join(fault.name for fault in FAULTS)}")
    return chosen


async def run(faults: Sequence[Fault], seed: int, console: Console) -> tuple[str, list[Row]]:
    """One after the other, each on databases, a virtual host and processes of its own."""
    prepare("local", console.print)
    backing = Local(is_durable=True)
    templates = Templates(backing)
    rows: list[Row] = []
    try:
        about = machine(backing.postgres_url)
        console.print(f"{about}; SEED={seed}")
        numbers = redis_numbers(backing)
        for number, fault in enumerate(faults):
            began = time.monotonic()
            stack = Stack(backing, templates, numbers)
            try:
                row = await run_fault(fault, backing, stack, seed + number)
            finally:
                await stack.close()
            rows.append(row)
            verdict = "good" if row.is_good else f"BAD: {row.lost} lost, {row.twice} twice, {'; '.join(row.other)}"
            console.print(f"{fault.name}: {verdict} ({time.monotonic() - began:.0f} s)", markup=False)
        templates.close()
    finally:
        backing.close()
    return about, rows


def main() -> int:
    """0 if every row is good."""
    parser = argparse.ArgumentParser(prog="make test-faults", description=__doc__)
    parser.add_argument("--fault", default=os.environ.get("FAULT", ""), help="run this one alone; or FAULT=")
    parser.add_argument("--seed", default=os.environ.get("SEED", ""), help="repeat a run's random choices; or SEED=")
    parser.add_argument("--json", default="faults.json", help="where the figures go")
    arguments = parser.parse_args()
    console = Console(width=160)
    seed = int(arguments.seed) if arguments.seed else SystemRandom().randrange(1_000_000)
    about, rows = asyncio.run(run(_chosen(arguments.fault), seed, console))
    console.print(table(rows))
    report = {"machine": about, "seed": seed, "faults": [asdict(row) for row in rows]}
    Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")
    is_good = all(row.is_good for row in rows)
    console.print(f"{'nothing lost, nothing twice' if is_good else 'FAILED'}; written to {arguments.json}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
