"""The yardstick for one request: uvicorn alone, which reads the body and responds with as many bytes as the gateway."""

import asyncio
import sys

import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

ANSWER = (
    b'{"eventId":"019b4fe1-2e40-7a31-9c1e-6c1f5d3a9b10","isValid":true,"validationErrors":null,'
    b'"receivedAt":"2025-12-24T10:30:00.123Z"}'
)
HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(ANSWER)),
    (b"x-correlation-id", b"0123456789abcdef0123456789abcdef"),
]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """202 for everything."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": HEADERS})
    await send({"type": "http.response.body", "body": ANSWER})


def main() -> None:
    """Serve on the port given as the argument, with the gateway's own server settings."""
    config = uvicorn.Config(
        app,
        port=int(sys.argv[1]),
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=4096,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
