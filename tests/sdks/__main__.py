"""`make test-sdks`: the real SDKs send to a gateway, directly and through a network that loses every tenth response.

Everything runs on loopback, on servers that it starts itself. Exit 1 if any message is missing or there twice, is not
what was sent, or is counted wrongly.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from deploy.local import LocalStackError
from tests.sdks import sdks
from tests.sdks.run import SERVICES, SdkRow, run_sdk
from tests.sdks.sdks import SDKS, Sdk
from tests.support.backing_services import chosen_kind, open_backing, prepare
from tests.support.service_processes import run_services
from tests.support.stack import Stack, Templates, redis_numbers

NUMBER = 2_000
DROP_EVERY = 10


def table(rows: Sequence[SdkRow]) -> Table:
    """Return the table that is printed."""
    shown = Table(title="SDKs")
    shown.add_column("SDK", no_wrap=True)
    for name in ("version", "answers lost", "sent", "stored", "twice", "missing", "requests", "seconds"):
        shown.add_column(name, justify="right")
    shown.add_column("wrong")
    for row in rows:
        numbers = (row.version, row.dropped, row.sent, row.stored, row.twice, row.missing, row.requests)
        wrong = f"{len(row.wrong)}: {row.wrong[0].strip()[-60:]}" if row.wrong else ""
        shown.add_row(row.sdk, *map(str, numbers), f"{row.seconds:.1f}", wrong)
    return shown


async def run(chosen: Sequence[Sdk], number: int, console: Console) -> list[SdkRow]:
    """One SDK after the other, each with a system of its own, without and with loss."""
    kind, reason = chosen_kind()
    console.print(f"backing services: {kind} ({reason})", markup=False)
    backing = open_backing(prepare(kind, console.print))
    templates = Templates(backing)
    rows = []
    try:
        stack = Stack(backing, templates, redis_numbers(backing))
        try:
            async with run_services(stack, *SERVICES) as services:
                for sdk in chosen:
                    for drop_every in (0, DROP_EVERY):
                        row = await run_sdk(sdk, services, stack, number, drop_every=drop_every)
                        rows.append(row)
                        console.print(_line(row), markup=False)
        finally:
            await stack.close()
        templates.close()
    finally:
        backing.close()
    return rows


def _line(row: SdkRow) -> str:
    verdict = "good" if row.is_good else "BAD"
    return "\n".join((f"{row.sdk}: {verdict}, {row.dropped} answers lost ({row.seconds:.1f} s)", *row.wrong[:5]))


def main() -> int:
    """0 if every row is good."""
    parser = argparse.ArgumentParser(prog="make test-sdks", description=__doc__)
    parser.add_argument("--sdk", default=os.environ.get("SDK", ""), help="this one alone; or SDK=")
    parser.add_argument("--number", type=int, default=NUMBER, help="of events for each")
    arguments = parser.parse_args()
    chosen = [sdk for sdk in SDKS if arguments.sdk in ("", sdk.name)]
    if not chosen:
        print(f"there is no SDK {arguments.sdk!r}; there are {', '.join(sdk.name for sdk in SDKS)}", file=sys.stderr)
        return 2
    console = Console(width=160)
    try:
        sdks.prepare(console.print)
    except LocalStackError as error:
        print(error, file=sys.stderr)
        return 2
    rows = asyncio.run(run(chosen, arguments.number, console))
    console.print(table(rows))
    is_good = all(row.is_good for row in rows)
    console.print("each message once, and counted once" if is_good else "FAILED")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
