"""A worker notices by itself that its queue no longer delivers to it."""

import asyncio
from typing import Any, cast

import aio_pika
import pytest

from services.statistics import SERVICE
from tests.support.polling import PATIENCE_S
from tests.support.stack import Stack
from tracking.contracts import topology
from tracking.contracts.events_tracked import UnreadableMessage, decode
from tracking.infra import rabbitmq
from tracking.worker import consumer as worker
from tracking.worker.deliveries import Deliveries


def a_consumer(url: str) -> worker.InboxConsumer[Any]:
    return worker.InboxConsumer(
        consumer=SERVICE,
        rabbitmq_url=url,
        pool=cast(Any, None),
        decode=decode,
        unreadable=UnreadableMessage,
        take_deliveries=cast(Any, None),
        prefetch_messages=1,
        dead_letter_limit=1,
        timeout_s=PATIENCE_S,
    )


async def test_messages_that_wait_and_do_not_come_end_the_session(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_QUEUE_CHECK_INTERVAL_S", 0.05)
    nobody = cast(Any, None)
    deliveries = Deliveries[Any](SERVICE, nobody, nobody, nobody, group_events=1, group_bytes=1, retry_pause_s=1)
    consumer, nothing = a_consumer(stack.rabbitmq_url), asyncio.Queue[Any]()
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        await rabbitmq.declare_topology(channel, PATIENCE_S)
        for _ in range(3):
            assert not await consumer._receive(nothing, channel, deliveries)

        queue = topology.get_queue_names(SERVICE).work
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue)
        assert not await consumer._receive(nothing, channel, deliveries)
        with pytest.raises(worker._SessionOver, match="1 messages wait"):
            await consumer._receive(nothing, channel, deliveries)
