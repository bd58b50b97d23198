"""`python -m tests.load.slow_clients`: measures in one run how 2,000 slow sockets change the p99 of normal traffic.

Rounds with and without them take turns on one gateway with its ordinary deadlines, and the median of the rounds' ratios
counts. A third of the sockets drips headers, a third a body, a third stays idle behind a request; one that the gateway
ends is opened again. Exit 1 beyond the aim.
"""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from typing import cast
from urllib.parse import urlsplit

import httpx
import uvloop

from tests.load import measure, wrk
from tests.support.backing_services import LocalServices, prepare
from tests.support.registry import register_system
from tests.support.service_processes import ROOT, run_services
from tests.support.stack import Stack, Templates, redis_numbers
from tracking.infra.process import raise_file_limit

SOCKETS = 2_000
AIM = 1.2
CONNECTIONS = 32
# normal traffic: about half of what the gateway can take; at its limit a p99 is a queue's and differs by its half
PAUSE_MS = 8
_INTERVAL_S = 5.0
_STEP = 10
_HEAD = b"POST /api/events/ingest HTTP/1.1\r\nHost: slow\r\n"
_STARTS = (_HEAD, _HEAD + b"Content-Length: 60000\r\n\r\n", b"GET /health/live HTTP/1.1\r\nHost: slow\r\n\r\n")
_DROPS = (b"X-Slow: a\r\n", b" ", b"")


class SlowClient(asyncio.Protocol):
    """A socket that has begun a request, or has had its answer; `transport` is None once the gateway has ended it."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self.transport.write(_STARTS[self.kind])

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None


async def hold(url: str, number: int) -> None:
    """Keep `number` slow sockets open until killed; says `ready` once all are.

    One loop sends the drops, a few sockets at a time: this process should cost the machine as little as it can.
    """
    host, _, port = urlsplit(url).netloc.partition(":")
    loop = asyncio.get_running_loop()
    sockets = [SlowClient(position % 3) for position in range(number)]
    is_ready = False
    while True:
        for position, slow in enumerate(sockets):
            if slow.transport is None:
                _, sockets[position] = await loop.create_connection(partial(SlowClient, slow.kind), host, int(port))
            elif _DROPS[slow.kind]:
                slow.transport.write(_DROPS[slow.kind])
            if position % _STEP == 0:
                await asyncio.sleep(_INTERVAL_S * _STEP / number)
        if not is_ready:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            is_ready = True


@asynccontextmanager
async def slow_sockets(url: str, number: int) -> AsyncIterator[None]:
    """They live in a process of their own."""
    arguments = ("-m", "tests.load.slow_clients", "--hold", url, "--sockets", str(number))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=pipe)
    try:
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RuntimeError("the slow sockets could not be opened")
        yield
    finally:
        process.kill()
        await process.wait()


async def ended(url: str) -> int:
    """How many connections the gateway has ended so far."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{url}/metrics", timeout=10)).text
    return sum(int(float(n)) for n in re.findall(r"^tracking_connections_ended_total\S* (\S+)$", text, re.MULTILINE))


async def compare(stack: Stack, number: int, rounds: int, seconds: float) -> float:
    """Print each round; the median of p99 with them over p99 without."""
    sender = await register_system(stack)
    body = json.dumps(measure.an_event(sender.api_key)).encode()
    ratios: list[float] = []
    async with run_services(stack, "gateway") as services:
        url = services.url("gateway")
        ingest = f"{url}/api/events/ingest"
        await measure.post(ingest, body, CONNECTIONS, 2)
        for round_number in range(1, rounds + 1):
            alone = await measure.post(ingest, body, CONNECTIONS, seconds, PAUSE_MS)
            before = await ended(url)
            async with slow_sockets(url, number):
                slow = await measure.post(ingest, body, CONNECTIONS, seconds, PAUSE_MS)
            ratios.append(slow.p99_ms / alone.p99_ms)
            print(
                f"round {round_number}: p99 {alone.p99_ms:.1f} ms at {alone.per_second:.0f}/s alone, "
                f"{slow.p99_ms:.1f} ms at {slow.per_second:.0f}/s beside {number} slow sockets, "
                f"of which {await ended(url) - before} were ended"
            )
    return median(ratios)


async def measure_all(number: int, rounds: int, seconds: float) -> float:
    """On servers of its own, as durable as a user's."""
    wrk.ensure()
    prepare("local", print)
    backing = LocalServices(is_durable=True)
    templates = Templates(backing)
    try:
        stack = Stack(backing, templates, redis_numbers(backing))
        try:
            return await compare(stack, number, rounds, seconds)
        finally:
            await stack.close()
    finally:
        templates.close()
        backing.close()


def main() -> int:
    """Exit 0 if the p99 grew by no more than the aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=SOCKETS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=12, help="of each measurement; longer than a header deadline")
    parser.add_argument("--hold", metavar="URL", help="only hold slow sockets to this address until killed")
    given = parser.parse_args()
    raise_file_limit()
    if given.hold:
        uvloop.run(hold(given.hold, given.sockets))
        return 0
    ratio = asyncio.run(measure_all(given.sockets, given.rounds, given.seconds))
    print(f"p99 beside {given.sockets} slow sockets ÷ alone: {ratio:.2f} (aim ≤ {AIM})")
    return 0 if ratio <= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
