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
from tracking.worker.inbox import Inbox


def a_consumer(url: str) -> worker.InboxConsumer[Any]:
    return worker.InboxConsumer(
        consumer=SERVICE,
        rabbitmq_url=url,
        pool=cast(Any, None),
        decode=decode,
        unreadable=UnreadableMessage,
        inbox=Inbox(SERVICE, cast(Any, None), apply=cast(Any, None)),
        group_bytes=8 * 1024 * 1024,
        group_events=10,
        prefetch_messages=1,
        dead_letter_limit=1,
        timeout_s=PATIENCE_S,
    )


async def test_messages_that_wait_and_do_not_come_end_the_session(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_QUEUE_CHECK_INTERVAL_S", 0.05)
    consumer, nothing = a_consumer(stack.rabbitmq_url), asyncio.Queue[Any]()
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        await rabbitmq.declare_topology(channel, PATIENCE_S)
        for _ in range(3):
            assert await consumer._take(nothing, channel) == ([], False)

        queue = topology.get_queue_names(SERVICE).work
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue)
        assert await consumer._take(nothing, channel) == ([], False)
        with pytest.raises(worker._SessionOver, match="1 messages wait"):
            await consumer._take(nothing, channel)
