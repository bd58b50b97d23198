"""A connection that the broker closes counts as an outage, whichever error its library raises."""

import asyncio
import socket
import threading
import time

import pytest
import uvloop

from tracking.domain.errors import Unavailable
from tracking.infra.rabbitmq import Publisher


def _hang_up(listening: socket.socket) -> None:
    while True:
        try:
            caller, _ = listening.accept()
        except OSError:
            return
        caller.close()


async def _keep_busy() -> None:
    while True:
        # blocks the loop on purpose: the end is there before the first byte is asked for
        time.sleep(0.01)  # noqa: ASYNC251
        await asyncio.sleep(0)


async def _publish(port: int) -> None:
    busy = asyncio.create_task(_keep_busy())
    publisher = Publisher(f"amqp://x:x@127.0.0.1:{port}/", name="test", timeout_s=5)
    try:
        await publisher.publish(b"{}", message_id="1", message_type="t", content_type="application/json", headers={})
    finally:
        busy.cancel()


def test_a_broker_that_hangs_up_before_it_is_greeted_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_hang_up, args=(listening,), daemon=True).start()

        with pytest.raises(Unavailable, match="cannot be reached"):
            uvloop.run(_publish(listening.getsockname()[1]))
