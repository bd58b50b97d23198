"""`python -m tests.faults.open_loop_load`: sends batches at a fixed rate and never waits for responses.

A request is sent when its time has come, on a free connection or a new one, and given up after some seconds, as SDKs
do. Raw sockets: a comfortable client would be the limit. Its plan comes as JSON on standard input, its count goes to
standard output.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import uvloop

_READ_BYTES = 64 * 1024
_MAX_UNDER_WAY = 8_000


@dataclass(slots=True)
class OpenLoopLoad:
    """The load to offer: `body` goes to `path`, `per_second` times a second."""

    port: int
    path: str
    body: str
    per_second: float
    seconds: float
    timeout_s: float = 10.0


@dataclass(slots=True)
class ResponseCounts:
    """Answers by status (`0`: none in time, or a broken connection) and how long a 202 took."""

    statuses: dict[str, int] = field(default_factory=dict)
    without_retry_after: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    late_s: float = 0.0
    """How far the generator fell behind its own plan: if much, the offered rate was lower than meant."""
    cores: float = 0.0
    """What it took of the processors, which the system did not have meanwhile."""


class _Crowd:
    def __init__(self, flood: OpenLoopLoad) -> None:
        body = flood.body.encode()
        head = f"POST {flood.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._request = head.encode() + b"\r\n\r\n" + body
        self._flood = flood
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._statuses: Counter[str] = Counter()
        self.count = ResponseCounts()

    async def run(self) -> ResponseCounts:
        """Send all, wait for the last answers."""
        began = time.monotonic()
        pending: set[asyncio.Task[None]] = set()
        for number in range(int(self._flood.per_second * self._flood.seconds)):
            due = began + number / self._flood.per_second
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            self.count.late_s = max(self.count.late_s, now - due)
            if len(pending) > _MAX_UNDER_WAY:
                self._statuses["0"] += 1  # nobody has so many sockets; it counts as unanswered
                continue
            task = asyncio.create_task(self._send())
            pending.add(task)
            task.add_done_callback(pending.discard)
        if pending:
            await asyncio.wait(pending)
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.count.cores = (used.ru_utime + used.ru_stime) / (time.monotonic() - began)
        self.count.statuses = dict(self._statuses)
        return self.count

    async def _send(self) -> None:
        sent_at = time.monotonic()
        connection = self._free.pop() if self._free else None
        try:
            async with asyncio.timeout(self._flood.timeout_s):
                connection = connection or await asyncio.open_connection("127.0.0.1", self._flood.port)
                connection[1].write(self._request)
                head = await self._answer(connection[0])
        except (OSError, EOFError, TimeoutError):
            self._statuses["0"] += 1
            if connection is not None:
                connection[1].transport.abort()
            return
        status = head[9:12].decode()
        self._statuses[status] += 1
        if status == "202":
            self.count.latencies_ms.append(1000 * (time.monotonic() - sent_at))
        elif status in ("503", "429") and b"retry-after:" not in head:
            self.count.without_retry_after += 1
        if b"connection: close" in head:
            connection[1].close()
        else:
            self._free.append(connection)

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        left = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        while left > 0:
            piece = await reader.read(min(left, _READ_BYTES))
            if not piece:
                raise EOFError
            left -= len(piece)
        return head


async def _main() -> None:
    print(json.dumps(asdict(await _Crowd(OpenLoopLoad(**json.loads(sys.stdin.read()))).run())))


if __name__ == "__main__":
    uvloop.run(_main())
