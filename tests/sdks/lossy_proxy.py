"""A proxy that loses responses: every request reaches the gateway, but some responses never reach the client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.sdks.messages import read_message


class LossyProxy:
    """Forwards HTTP/1.1 to `target` on loopback; of the answers to `drop_every` POSTs one is thrown away.

    A connection has one request: on one that it has used before, Chromium repeats a request by itself, and what the
    SDK makes of a lost answer would not be seen.
    """

    def __init__(self, target: int, drop_every: int) -> None:
        self.port = 0
        self.answers = 0
        self.dropped = 0
        self._target = target
        self._drop_every = drop_every

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await self._pass_on(reader, writer, far_reader, far_writer)
            finally:
                far_writer.transport.abort()
        writer.close()

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        request = await read_message(reader)
        if request is None:
            return
        far_writer.write(request.raw)
        answer = await read_message(far_reader)
        if answer is None:
            return
        if request.start.startswith("POST "):
            self.answers += 1
            if self.answers % self._drop_every == 0:
                self.dropped += 1
                return
        start, _, rest = answer.raw.partition(b"\r\n")
        writer.write(start + b"\r\nConnection: close\r\n" + rest)
        await writer.drain()


@asynccontextmanager
async def run_lossy_proxy(url: str, drop_every: int) -> AsyncIterator[LossyProxy]:
    """Run a proxy to a service; it is closed at the end."""
    proxy = LossyProxy(urlsplit(url).port or 80, drop_every)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
