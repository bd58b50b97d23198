"""Counts on the wire what a service sends to its servers, so that growing costs are noticed without a clock.

A proxy stands before each server and reads the client's half of the protocol. The servers need no setting for it, and
what is counted is what was sent, whichever library sent it.
"""

import asyncio
import contextlib
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import FrameType
from urllib.parse import urlsplit, urlunsplit

from deploy.local.services import SERVICES, make_environment
from tests.support.polling import PATIENCE_S
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

_PIECE_BYTES = 256 * 1024
# PostgreSQL manual, "Message Formats", SSLRequest
_SSL_REQUEST = struct.pack("!II", 8, 80877103)
_RESET = b"SELECT pg_advisory_unlock_all()"
# (class, method) of AMQP 0-9-1; others are counted by their numbers
_AMQP_METHODS = {(60, 40): "publish", (60, 80): "ack", (60, 120): "nack", (50, 10): "declare a queue"}
_SETTINGS = {
    "write": "TRACKING_WRITE_DATABASE_URL",
    "read": "TRACKING_READ_DATABASE_URL",
    "redis": "TRACKING_REDIS_URL",
    "rabbitmq": "TRACKING_RABBITMQ_URL",
}
# what goes on by itself, whether or not there is work
_BY_ITSELF = (
    "[reset]",
    "open_dead_letters",
    "from write.event_structures",
    "from write.retention",
    "select generation, changed_at",
    "update write.api_keys",
    "select 1",
    "PING",
)
# so that no statement is counted that is there because a busy machine was too late with another
_PATIENT = {"TRACKING_REDIS_TIMEOUT_S": str(PATIENCE_S), "TRACKING_QUERY_TIMEOUT_S": str(PATIENCE_S)}
_MOST_TRIES = 5


@dataclass(slots=True)
class WireTraffic:
    """`statements` by their text (commands, AMQP methods); `waits` is how often the client waited for an answer."""

    statements: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    @property
    def number(self) -> int:
        """Statements in all."""
        return self.statements.total()

    @property
    def round_trips(self) -> int:
        """Waits in all."""
        return self.waits.total()

    def __str__(self) -> str:
        texts = sorted(self.statements | self.waits)
        lines = [f"  {self.statements[text]:4} times, {self.waits[text]:4} round trips: {text}" for text in texts]
        return "\n".join(lines) or "  nothing"


# yields how many bytes it needs and is sent them; notes what they say
Reader = Generator[int, bytes, None]


def read_postgres(said: WireTraffic) -> Reader:
    """PostgreSQL's protocol 3: simple and extended queries, COPY."""
    (size,) = struct.unpack("!I", (yield 4))
    yield size - 4
    said.statements["connect"] += 1
    prepared: dict[bytes, str] = {}
    bound: dict[bytes, str] = {}
    now = "connect"
    while True:
        kind, size = struct.unpack("!cI", (yield 5))
        body = yield size - 4
        match kind:
            case b"Q":
                # asyncpg's pool does it after each use of a connection, perhaps after the answer to a request
                now = f"[reset] {now}" if body.startswith(_RESET) else _shown(body)
                said.statements[now] += 1
            case b"P":
                name, text = body.split(b"\0")[:2]
                now = prepared[name] = _shown(text)
            case b"B":
                portal, name = body.split(b"\0", 2)[:2]
                now = bound[portal] = prepared[name]
            case b"E":
                now = bound[body.split(b"\0", 1)[0]]
                said.statements[now] += 1
        # Query, Flush, Sync and CopyDone: after each the client waits, as asyncpg never sends two at once
        if kind in (b"Q", b"H", b"S", b"c"):
            said.waits[now] += 1


def _shown(text: bytes) -> str:
    return " ".join(text.rstrip(b"\0").decode().split())[:90]


def read_redis(said: WireTraffic) -> Reader:
    """RESP: a command is an array of strings."""
    while True:
        parts = []
        for _ in range(int((yield from _line())[1:])):
            size = int((yield from _line())[1:])
            parts.append((yield size + 2)[:size])
        command = parts[0].decode().upper()
        said.statements[command] += 1
        said.waits[command] += 1


def _line() -> Generator[int, bytes, bytes]:
    line = b""
    while not line.endswith(b"\r\n"):
        line += yield 1
    return line[:-2]


def read_amqp(said: WireTraffic) -> Reader:
    """AMQP 0-9-1: method frames only; heartbeats are no work."""
    yield 8
    while True:
        kind, _, size = struct.unpack("!BHI", (yield 7))
        body = yield size + 1
        if kind == 1:
            method = struct.unpack("!HH", body[:4])
            said.statements[_AMQP_METHODS.get(method, f"method {method}")] += 1


_READERS: Mapping[str, Callable[[WireTraffic], Reader]] = {
    "write": read_postgres,
    "read": read_postgres,
    "redis": read_redis,
    "rabbitmq": read_amqp,
}


class WireProxy:
    """A proxy before one server; `url` is where the service finds it, `said` everything since the last `take`."""

    def __init__(self, url: str, reader: Callable[[WireTraffic], Reader]) -> None:
        self.url = url
        self._target = urlsplit(url)
        self._reader = reader
        self.said = WireTraffic()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    def take(self) -> WireTraffic:
        """Return the traffic since the last call, without traffic that no request causes."""
        said = WireTraffic(*(_without_pings(counter) for counter in (self.said.statements, self.said.waits)))
        self.said.statements.clear()
        self.said.waits.clear()
        return said

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold back inside what the client sends."""
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["WireProxy"]:
        """Until the end, when every connection is cut."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        user = "".join(self._target.netloc.rpartition("@")[:2])
        address = f"{user}127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.url = urlunsplit(self._target._replace(netloc=address))
        try:
            yield self
        finally:
            server.close()
            for writer in list(self._writers):
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            first = await self._first(reader, writer)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(first, reader, far_writer))
                tasks.create_task(_copy(far_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _first(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Read the first message; a PostgreSQL client that asks for encryption is told that there is none."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            first = await reader.readexactly(8)
            if first != _SSL_REQUEST:
                return first
            writer.write(b"N")
            return await reader.readexactly(8)
        return b""

    async def _listen(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = self._reader(self.said)
        wanted, held, piece = next(parts), bytearray(), first
        with contextlib.suppress(OSError):
            while piece:
                held += piece
                while len(held) >= wanted:
                    part = bytes(held[:wanted])
                    del held[:wanted]
                    wanted = parts.send(part)
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
                piece = await reader.read(_PIECE_BYTES)
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


def _without_pings(counter: Counter[str]) -> Counter[str]:
    return Counter({text: n for text, n in counter.items() if not any(part in text for part in _BY_ITSELF)})


@asynccontextmanager
async def counted(
    stack: Stack, service: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[ServiceProcesses, Mapping[str, WireProxy]]]:
    """One service, ready, with a wire to each of the servers it needs: `write`, `read`, `redis`, `rabbitmq`."""
    needs = sorted(SERVICES[service].needs & _SETTINGS.keys())
    direct = make_environment(service, stack, 0, "")
    async with AsyncExitStack() as wires:
        made: dict[str, WireProxy] = {
            need: await wires.enter_async_context(WireProxy(direct[_SETTINGS[need]], _READERS[need]).listening())
            for need in needs
        }
        urls = {_SETTINGS[need]: wire.url for need, wire in made.items()}
        async with run_services(stack, service, settings=_PATIENT | urls | dict(settings or {})) as services:
            for wire in made.values():
                wire.take()
            yield services, made


def at_most(said: WireTraffic, what: str, *, statements: int, round_trips: int) -> None:
    """AssertionError, with all that was said, if either is more."""
    assert said.number <= statements, f"{what}: {said.number} statements, where {statements} were enough before\n{said}"
    assert said.round_trips <= round_trips, (
        f"{what}: {said.round_trips} round trips, where {round_trips} were enough before\n{said}"
    )


async def cheapest(wire: WireProxy, act: Callable[[], Awaitable[object]]) -> WireTraffic:
    """What `act` said in the best of several tries: a loop that looks for work each second may add to the others."""
    tries: list[WireTraffic] = []
    for _ in range(_MOST_TRIES):
        wire.take()
        await act()
        tries.append(wire.take())
    return min(tries, key=lambda said: (said.number, said.round_trips))


class CallCounter:
    """How many functions were called while it was entered, Python's and C's, in this thread."""

    number = 0

    def __enter__(self) -> "CallCounter":
        self._before = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            self.number += 1
