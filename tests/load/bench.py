"""`make bench`: measures ratios of speed in one run, on private servers that are as durable as those of users.

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
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from tests.load import wrk
from tests.load.broker_outage import Outage
from tests.load.comparisons import Comparisons
from tests.load.consumer_throughput import ConsumerThroughput
from tests.load.environment import BenchEnvironment, Section
from tests.load.growth.run import Growth
from tests.load.ingest import Ingest
from tests.load.memory import Memory
from tests.load.report import table
from tests.load.storage import Storage
from tests.load.sustained_load import Sustained
from tests.support.backing_services import LocalServices, prepare
from tests.support.service_processes import ROOT
from tests.support.stack import Templates, redis_numbers


def sections(room: BenchEnvironment) -> dict[str, Section]:
    """By the name that ONLY= takes, in the order of the table."""
    return {
        "ingest": Ingest(room),
        "drains": ConsumerThroughput(room),
        "sustained": Sustained(room),
        "outage": Outage(room),
        "rivals": Comparisons(room),
        "growth": Growth(room),
        "storage": Storage(room),
        "memory": Memory(room),
    }


def choose(room: BenchEnvironment, only: Sequence[str]) -> dict[str, Section]:
    """The sections that were asked for; SystemExit for a name that is not there."""
    chosen = {name: section for name, section in sections(room).items() if not only or name in only}
    if len(chosen) < len(only):
        raise SystemExit(f"ONLY={','.join(only)}: there is {', '.join(sections(room))}")
    return chosen


async def measure_all(chosen: Mapping[str, Section], say: Callable[[str], None]) -> list[str]:
    """Round by round through all of them; a section that fails has no more rounds, and its name is returned."""
    failed: list[str] = []
    for number in range(max(section.rounds for section in chosen.values())):
        for name, section in chosen.items():
            if number >= section.rounds or name in failed:
                continue
            say(f"[bold]{name}, round {number + 1} of {section.rounds}")
            began = time.monotonic()
            try:
                await section.round()
            except Exception:
                traceback.print_exc()
                failed.append(name)
            say(f"[dim]{time.monotonic() - began:.0f} s")
    return failed


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


def run(console: Console, only: Sequence[str], *, is_quick: bool) -> dict[str, Any]:
    """Measure, print, and return the figures, with the names of sections that `failed`."""
    wrk.ensure()
    prepare("local", console.print)
    backing = LocalServices(is_durable=True)
    templates = Templates(backing)
    try:
        about = machine(backing.postgres_url)
        console.print(about)
        room = BenchEnvironment(backing, templates, redis_numbers(backing), console.print, is_quick)
        chosen = choose(room, only)
        failed = asyncio.run(measure_all(chosen, console.print))
        rows = [row for section in chosen.values() for row in section.rows]
        console.print(table(rows))
        for section in chosen.values():
            for line in section.remarks:
                console.print(line)
        return {
            "machine": about,
            "isQuick": is_quick,
            "failed": failed,
            "rows": [row.as_json() for row in rows if row.measured],
            "remarks": [line for section in chosen.values() for line in section.remarks],
        }
    finally:
        templates.close()
        backing.close()


def main() -> int:
    """Exit 0 when every gate held, 1 when one did not; a slow machine is no failure."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        default=bool(os.environ.get("QUICK")),
        help="one short round, under three minutes; or QUICK=1",
    )
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="some sections: ingest,drains; or ONLY=")
    parser.add_argument("--json", default="bench.json", help="where the figures go")
    arguments = parser.parse_args()
    only = [name for name in arguments.only.split(",") if name]
    figures = run(Console(width=130, highlight=False), only, is_quick=arguments.quick)
    Path(arguments.json).write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    print(f"written to {arguments.json}")
    if figures["failed"]:
        print(f"failed, see above, and not measured to the end: {', '.join(figures['failed'])}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
