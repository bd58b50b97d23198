"""Stands in for the gateway: records every request, gives no response to the first, and 200 to all others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.sdks.messages import Message, read_message

_YES = (
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: POST\r\n"
    b"Access-Control-Allow-Headers: %b\r\nAccess-Control-Max-Age: 600\r\n\r\n%b"
)
_SUCCESS = b'{"success":true}'
# what RudderStack's browser SDK asks for first
_SOURCE = b'{"source":{"id":"1","enabled":true,"config":{},"destinations":[]}}'


class Recorder:
    """Records the requests that came in, in their order, with preflights."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[Message] = []
        self._is_first = True

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which has one request as in `lossy_proxy.LossyProxy`."""
        request = await read_message(reader)
        if request is not None:
            self.requests.append(request)
            is_lost = self._is_first and request.start.startswith("POST ")
            self._is_first &= not is_lost
            if not is_lost:
                body = _SOURCE if request.start.startswith("GET ") else _SUCCESS
                names = request.header("access-control-request-headers") or "content-type"
                writer.write(_YES % (len(body), names.encode("latin-1"), body))
                await writer.drain()
        writer.close()


@asynccontextmanager
async def run_recorder() -> AsyncIterator[Recorder]:
    """Run a recorder that stops listening at the end and keeps the requests."""
    recorder = Recorder()
    server = await asyncio.start_server(recorder.accept, "127.0.0.1", 0)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
