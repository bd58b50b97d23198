"""HTTP as bytes on a socket, for requests that no client library would send."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.support.polling import PATIENCE_S


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response; `status` 0 means that the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; raises ValueError if it is none."""
        return json.loads(self.body)


SILENCE = RawResponse(0, {}, b"")
Ending = Literal["wait", "half_close"]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of its own to a process."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=64 * 1024 * 1024)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def exchange(url: str, *pieces: bytes, timeout_s: float = PATIENCE_S, ending: Ending = "wait") -> RawResponse:
    """Send the pieces and read one answer; TimeoutError if there is neither an answer nor an end in time.

    A server that stops reading early is no failure: what it has answered by then is the answer.
    """
    async with asyncio.timeout(timeout_s), connected(url) as (reader, writer):
        answering = asyncio.ensure_future(read_answer(reader))
        try:
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                if ending == "half_close":
                    writer.write_eof()
            return await answering
        finally:
            answering.cancel()


async def drip(
    url: str, start: bytes, drop: bytes, *, every_s: float, timeout_s: float
) -> tuple[list[RawResponse], float]:
    """Send `start`, then `drop` again and again until the server ends it; its answers, and the seconds it took."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s), connected(url) as (reader, writer):
        began = loop.time()
        answering = asyncio.ensure_future(_read_answers(reader))
        try:
            writer.write(start)
            while not answering.done():
                with suppress(ConnectionError):
                    writer.write(drop)
                    await writer.drain()
                await asyncio.wait([answering], timeout=every_s)
            return answering.result(), loop.time() - began
        finally:
            answering.cancel()


async def _read_answers(reader: asyncio.StreamReader) -> list[RawResponse]:
    answers = []
    while (answer := await read_answer(reader)) != SILENCE:
        answers.append(answer)
    return answers


async def read_answer(reader: asyncio.StreamReader) -> RawResponse:
    """One answer with a Content-Length or chunks, or SILENCE at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        if status == 100:
            return await read_answer(reader)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])}
        if "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = await _read_chunked_body(reader)
        else:
            body = b""
    except (asyncio.IncompleteReadError, ConnectionError):
        return SILENCE
    return RawResponse(status, headers, body)


async def _read_chunked_body(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


def request(
    method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes | None = None
) -> bytes:
    """A request as bytes; Content-Length is that of `body` unless a header says something else."""
    lines = [b"%b %b HTTP/1.1" % (method.encode(), target), b"Host: test"]
    names = {name.lower() for name, _ in headers}
    if body is not None and not names & {b"content-length", b"transfer-encoding"}:
        lines.append(b"Content-Length: %d" % len(body))
    lines.extend(b"%b: %b" % header for header in headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def connect_slowly(url: str, receive_bytes: int) -> socket.socket:
    """A socket whose receive buffer is small, so that what is not read stays with the sender."""
    parts = urlsplit(url)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.connect((parts.hostname, parts.port))
    return raw
