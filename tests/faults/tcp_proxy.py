"""A network that can be cut: a TCP proxy on loopback that can hold back all bytes, lose them, or reset all connections.

No library: the well kept ones (toxiproxy) are no Python packages, and two loops that copy bytes are all that is needed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PIECE_BYTES = 256 * 1024


class _Line:
    """What the connections of a time share: whether bytes pass, and whether their host has disappeared."""

    def __init__(self) -> None:
        self.flows = asyncio.Event()
        self.flows.set()
        self.is_gone = False


class TcpProxy:
    """Listens on `port` and forwards to `target` on loopback."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._line = _Line()
        self._gone: list[_Line] = []
        self._marker: bytes | None = None
        self._has_held = asyncio.Event()
        self._is_refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self) -> None:
        """As a cable that is pulled: connections stay open and nothing passes, nor does a new one get an answer."""
        self._line.flows.clear()

    async def hold_at(self, marker: bytes) -> None:
        """As `hold`, from the moment when a client sends a piece with `marker`, which does not pass either."""
        self._marker = marker
        self._has_held.clear()
        await self._has_held.wait()

    def lose(self) -> None:
        """As a host that disappears: its connections stay open and silent for ever. New ones work."""
        self._line.is_gone = True
        self._line.flows.clear()
        self._gone.append(self._line)
        self._line = _Line()

    def end_lost(self) -> None:
        """As keepalives that found nobody: the server is told that the connections which were lost have ended."""
        for line in self._gone:
            line.flows.set()
        self._gone.clear()

    def reset(self) -> None:
        """As a firewall that forgets: every connection is reset, and new ones too until `mend`."""
        self._is_refusing = True
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """Everything passes again, first what was held back."""
        self._is_refusing = False
        self._line.flows.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Reset every connection, and wait until each is gone."""
        self.reset()
        self.end_lost()
        self._line.flows.set()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self._line
        if not self._is_refusing:
            await line.flows.wait()
        if self._is_refusing:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(line, reader, far_writer, is_watched=True))
                tasks.create_task(self._copy(line, far_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _copy(
        self, line: _Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_watched: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                if is_watched and self._marker is not None and self._marker in piece:
                    self._marker = None
                    self.hold()
                    self._has_held.set()
                await line.flows.wait()
                if line.is_gone:
                    break
                writer.write(piece)
                await writer.drain()
        # nobody hears of the end of a connection that is held or lost
        await line.flows.wait()
        writer.close()


@asynccontextmanager
async def proxied(target: int) -> AsyncIterator[TcpProxy]:
    """Run a proxy to a local port; at the end it is closed together with every connection."""
    proxy = TcpProxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
