"""A network that loses answers: every request reaches the gateway, but of some nobody hears what became of them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from tests.sdks.messages import read_message


class Proxy:
    """Forwards HTTP/1.1 to `target` on loopback; of `drop_every` answers one is thrown away, its connection closed."""

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
                while await self._passed_on(reader, writer, far_reader, far_writer):
                    pass
            finally:
                far_writer.transport.abort()
        writer.close()

    async def _passed_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; False at the end of the connection, or if the answer was thrown away."""
        request = await read_message(reader)
        if request is None:
            return False
        far_writer.write(request.raw)
        answer = await read_message(far_reader)
        if answer is None:
            return False
        self.answers += 1
        if self.answers % self._drop_every == 0:
            self.dropped += 1
            return False
        writer.write(answer.raw)
        await writer.drain()
        return True


@asynccontextmanager
async def losing_answers(url: str, drop_every: int) -> AsyncIterator[Proxy]:
    """A proxy to a service of ours, gone at the end."""
    proxy = Proxy(urlsplit(url).port or 80, drop_every)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
