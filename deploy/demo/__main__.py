"""`python -m deploy.demo [--events N] [--seed N]`: send, wait, compare; exit 1 and say so if anything differs."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.demo import DemoError, events
from deploy.demo.events import DemoPlan
from deploy.demo.send import DemoSender, SendResult
from deploy.demo.target import Target, create_system
from deploy.demo.verify import QueryClient, StatisticsRow, compare, differences

MAX_EVENTS = 100_000
# a changed structure reaches every gateway within one second
_STRUCTURE_KNOWN_AFTER_S = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if everything sent is counted and listed exactly once."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--events", type=int, default=5000, help="how many events are to be stored (default 5000)")
    parser.add_argument("--seed", type=int, default=None, help="send the same events as an earlier run")
    options = parser.parse_args(arguments)
    if not 1 <= options.events <= MAX_EVENTS:
        parser.error(f"--events takes 1 to {MAX_EVENTS}, the last that page numbers reach")
    console = Console(soft_wrap=True)
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    try:
        faults = asyncio.run(_run(console, options.events, seed))
    except DemoError as error:
        faults = [str(error)]
    for fault in faults[:20]:
        console.print(f"wrong: {fault}", markup=False, style="red")
    return 1 if faults else 0


async def _run(console: Console, count: int, seed: int) -> list[str]:
    """Every way in which what came out differs from what was sent."""
    target = Target.find()
    options = target.httpx_options()
    async with httpx.AsyncClient(**options) as client:
        system = await create_system(target, client)
        if system.knows_new_structure:
            await asyncio.sleep(_STRUCTURE_KNOWN_AFTER_S)
        started = datetime.now(UTC)
        plan = events.plan(count, seed, started)
        console.print(f"system {system.name!r} ({system.id}), seed {seed}", highlight=False)
        outcome, seconds = await _send(console, DemoSender(target.gateway_url, system.api_key, options), plan)
        analytics = QueryClient(client, target, system, started)
        statistics, waited = await analytics.wait_for(len(plan.stored))
        _show(console, rows := compare(plan, statistics))
        faults = [*outcome.faults, *_unequal(plan, outcome, rows)]
        by_number, by_cursor = await analytics.listed(len(plan.stored))
        listed = differences("by page number", by_number, outcome.event_ids)
        listed += differences("by cursor", by_cursor, outcome.event_ids)
        if not listed:
            console.print(
                f"listed by page number and by cursor: all {len(by_number)} events, each exactly once", highlight=False
            )
        console.print(
            f"{plan.sent / seconds:,.0f} events/s acknowledged, by one client; "
            f"the statistics had them all {waited:.2f} s later",
            highlight=False,
        )
        return faults + listed


async def _send(console: Console, sender: DemoSender, plan: DemoPlan) -> tuple[SendResult, float]:
    started = time.monotonic()
    with _progress(console, plan.sent) as advance:
        outcome = await sender.send(plan, advance)
    seconds = time.monotonic() - started
    console.print(
        f"sent {plan.sent}: {outcome.accepted} accepted ({outcome.invalid} of them flagged as invalid), "
        f"{outcome.duplicates} known before, {outcome.rejected} refused"
        + (f", {outcome.retries} retries" if outcome.retries else ""),
        highlight=False,
    )
    return outcome, seconds


def _unequal(plan: DemoPlan, outcome: SendResult, rows: Sequence[StatisticsRow]) -> Iterator[str]:
    """A batch that was tried again may have been stored the first time: only without retries are all sums fixed."""
    pairs = {
        "events acknowledged": (len(plan.stored), len(outcome.event_ids)),
        "refused": (plan.rejected, outcome.rejected),
    }
    if not outcome.retries:
        pairs["accepted"] = (len(plan.stored), outcome.accepted)
        pairs["duplicates"] = (plan.repeats, outcome.duplicates)
    for name, (expected, actual) in pairs.items():
        if expected != actual:
            yield f"{name}: {actual} instead of {expected}"
    for row in rows:
        if row.sent != row.counted:
            yield f"statistics, {row.name!r}: sent {row.sent}, counted {row.counted} ({row.counted - row.sent:+})"


def _show(console: Console, rows: Sequence[StatisticsRow]) -> None:
    table = Table(title="Statistics")
    table.add_column("event")
    table.add_column("sent", justify="right")
    table.add_column("counted", justify="right")
    table.add_column("")
    for row in rows:
        if row.name == "valid":
            table.add_section()
        mark = "=" if row.sent == row.counted else f"{row.counted - row.sent:+}"
        table.add_row(row.name, str(row.sent), str(row.counted), mark)
    console.print(table)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, else a line at every fifth of the way."""
    if console.is_terminal:
        columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("sending", total=total)
            yield lambda number: bar.advance(task, number)
        return
    done = 0

    def advance(number: int) -> None:
        nonlocal done
        before, done = done, done + number
        if before * 5 // total != done * 5 // total:
            console.print(f"sending: {done} of {total}", highlight=False)

    yield advance


if __name__ == "__main__":
    sys.exit(main())
