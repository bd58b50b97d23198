"""A worker that its queue has forgotten finds out by itself."""

import asyncio
from typing import Any, cast

import aio_pika
import pytest

from services.statistics.tally import CONSUMER
from tests.polling import PATIENCE_S
from tests.stack import Stack
from tracking.contracts import topology
from tracking.contracts.events_tracked import UnreadableMessage, decode
from tracking.infra import inbox, rabbitmq


def a_consumer(url: str) -> inbox.InboxConsumer[Any]:
    return inbox.InboxConsumer(
        consumer=CONSUMER,
        rabbitmq_url=url,
        pool=cast(Any, None),
        decode=decode,
        unreadable=UnreadableMessage,
        apply=cast(Any, None),
        group_events=10,
        prefetch_messages=1,
        dead_letter_limit=1,
        timeout_s=PATIENCE_S,
    )


async def test_messages_that_wait_and_do_not_come_end_the_session(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "_CHECK_QUEUE_S", 0.05)
    consumer, nothing = a_consumer(stack.rabbitmq_url), asyncio.Queue[Any]()
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        await rabbitmq.declare_topology(channel, PATIENCE_S)
        for _ in range(3):
            assert await consumer._take(nothing, channel) == ([], False)

        queue = topology.queue_names(CONSUMER).work
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), queue)
        assert await consumer._take(nothing, channel) == ([], False)
        with pytest.raises(inbox._SessionOver, match="1 messages wait"):
            await consumer._take(nothing, channel)
