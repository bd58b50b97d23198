"""Reads whole HTTP/1.1 messages and keeps their bytes, for the proxy and the recorder."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer: `raw` as it came, `body` without its chunks' frames."""

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes

    def header(self, name: str) -> str | None:
        """The first of that name (lower case)."""
        return next((value for known, value in self.headers if known == name), None)


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next one of a connection, None at its end. Header names become lower case."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = tuple((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines))
        known = dict(headers)
        if known.get("transfer-encoding", "").lower() == "chunked":
            body, raw = await _read_chunked_body(reader)
        else:
            body = raw = await reader.readexactly(int(known.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Message(start, headers, body, head + raw)


async def _read_chunked_body(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    body, raw = b"", b""
    size = -1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        piece = await reader.readexactly(size + 2)
        body += piece[:-2]
        raw += line + piece
    return body, raw
