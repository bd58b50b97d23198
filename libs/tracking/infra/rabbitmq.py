"""RabbitMQ by aio-pika: connections, the topology, and a publisher whose silence is never taken for a yes.

aio-pika >= 10.2.1 and aiormq >= 7.2.4: older ones can give a confirm to the wrong message after a cancelled publish.
"""

import asyncio
import re
import time
from collections.abc import Mapping

import aio_pika
import aiormq
import zstandard
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError
from yarl import URL

from tracking.contracts import topology
from tracking.domain.errors import Unavailable

BROKER_ERRORS: tuple[type[BaseException], ...] = (
    aiormq.exceptions.AMQPError,
    aio_pika.exceptions.AMQPException,
    ConnectionError,
    TimeoutError,
    OSError,
    RuntimeError,  # aio-pika's word for "the channel has gone"
    StopAsyncIteration,  # aiormq's for a broker that hangs up while it is greeted
)
_HEARTBEAT_S = 15
_RETRY_CONNECT_S = 1.0
_ENCODING = "zstd"
# below, there is little to win
_COMPRESSED_FROM_BYTES = 2048
_MAX_CONTENT_BYTES = 256 * 1024 * 1024
# RabbitMQ 4 takes no larger message by default; earlier versions take 128 MiB.
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# How the server refuses a larger one (RabbitMQ 3.8 to 4.x, check_msg_size in rabbit_channel.erl).
_SIZE_REFUSAL = re.compile(r"message size \d+ is larger than (?:configured )?max size (\d+)")
# A limit that a refusal has told is believed for so long, because each refusal ends the channel for all its messages.
_SIZE_LIMIT_TTL_S = 60.0
_compressor = zstandard.ZstdCompressor(level=1)
_decompressor = zstandard.ZstdDecompressor()


class UnreadableContent(ValueError):
    """A body that is not what its content-encoding says; no retry will change that."""


class MessageTooLarge(Unavailable):
    """The broker takes no message of this size. The same events may fit in smaller messages."""

    def __init__(self, size_bytes: int, max_bytes: int) -> None:
        super().__init__("message_too_large", f"a message of {size_bytes} bytes; the broker takes {max_bytes}")


async def connect(url: str, *, name: str, timeout_s: float) -> AbstractConnection:
    """Open a plain connection, not one that reconnects by itself: the caller handles its end. Raises BROKER_ERRORS."""
    try:
        return await aio_pika.connect(
            URL(url).update_query(heartbeat=_HEARTBEAT_S),
            timeout=timeout_s,
            client_properties={"connection_name": name},
        )
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # aiormq cancels its own reading when the broker hangs up, and sometimes that is all that its caller learns
        raise ConnectionError("RabbitMQ hung up while the connection was opened") from error


async def declare_topology(channel: AbstractChannel, timeout_s: float) -> None:
    """Declare every exchange and queue; does nothing to those that are there. Raises BROKER_ERRORS."""
    events = await channel.declare_exchange(
        topology.EVENTS_EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True, timeout=timeout_s
    )
    dead = await channel.declare_exchange(
        topology.DEAD_LETTER_EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True, timeout=timeout_s
    )
    for consumer in topology.CONSUMERS:
        names = topology.get_queue_names(consumer)
        dead_queue = await channel.declare_queue(
            names.dead_letter, durable=True, arguments=topology.build_dead_letter_queue_arguments(), timeout=timeout_s
        )
        await dead_queue.bind(dead, routing_key=names.dead_letter, timeout=timeout_s)
        work_queue = await channel.declare_queue(
            names.work, durable=True, arguments=topology.build_work_queue_arguments(consumer), timeout=timeout_s
        )
        await work_queue.bind(events, timeout=timeout_s)


async def get_queue_depth(channel: AbstractChannel, queue: str, timeout_s: float) -> int:
    """Messages that are ready in a queue (those handed out are not counted). Raises BROKER_ERRORS."""
    declared = await channel.declare_queue(queue, passive=True, timeout=timeout_s)
    return declared.declaration_result.message_count or 0


def decode_body(message: AbstractIncomingMessage) -> bytes:
    """The body as it was given to `Publisher.publish`. Raises UnreadableContent."""
    encoding = message.content_encoding
    if not encoding:
        return message.body
    if encoding != _ENCODING:
        raise UnreadableContent(f"content-encoding {encoding[:40]!r}; only {_ENCODING} is known")
    try:
        if zstandard.frame_content_size(message.body) > _MAX_CONTENT_BYTES:
            raise UnreadableContent(f"a body of more than {_MAX_CONTENT_BYTES} bytes")
        return _decompressor.decompress(message.body, max_output_size=_MAX_CONTENT_BYTES)
    except zstandard.ZstdError as error:
        raise UnreadableContent(f"the body is not {_ENCODING}: {error}") from error


class Publisher:
    """Publishes persistent messages and returns when the broker has them; connects when first used.

    After a timeout, a cancellation or a broken connection the channel is thrown away with everything in flight on it:
    what happened to those messages is unknown, and the caller must treat it as not published.
    """

    def __init__(self, url: str, *, name: str, timeout_s: float) -> None:
        self._url = url
        self._name = name
        self._timeout_s = timeout_s
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._exchanges: dict[str, AbstractExchange] = {}
        self._opening = asyncio.Lock()
        self._closed_until = 0.0
        self._max_bytes, self._max_bytes_until = _MAX_MESSAGE_BYTES, 0.0

    async def publish(
        self,
        body: bytes,
        *,
        message_id: str,
        message_type: str,
        content_type: str,
        headers: Mapping[str, str],
        exchange: str = topology.EVENTS_EXCHANGE,
        routing_key: str = "",
    ) -> None:
        """Return once the broker confirmed. Raises Unavailable: not published, or nobody knows whether.

        MessageTooLarge concerns this message alone, and so may the code `publish_failed`; the codes `publish_refused`
        (a full queue) and `rabbitmq_unavailable` concern every message. The body travels compressed unless it is small;
        `decode_body` gives it back.
        """
        is_large = len(body) >= _COMPRESSED_FROM_BYTES
        message = aio_pika.Message(
            _compressor.compress(body) if is_large else body,
            content_encoding=_ENCODING if is_large else None,
            message_id=message_id,
            type=message_type,
            content_type=content_type,
            headers=dict(headers),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        self._require_size(len(message.body))
        channel = await self._open()
        try:
            await self._exchanges[exchange].publish(message, routing_key, mandatory=True, timeout=self._timeout_s)
        except DeliveryError as error:
            # a nack (queue full) or a return (no queue bound): the channel itself is well
            raise Unavailable("publish_refused", f"RabbitMQ refused the message: {error!r}") from error
        except BROKER_ERRORS as error:
            await self._discard(channel)
            self._learn_size_limit(error)
            self._require_size(len(message.body))
            raise Unavailable("publish_failed", f"RabbitMQ did not confirm: {error!r}") from error
        except asyncio.CancelledError:
            await self._discard(channel)
            raise

    def _require_size(self, size_bytes: int) -> None:
        if time.monotonic() > self._max_bytes_until:
            self._max_bytes = _MAX_MESSAGE_BYTES
        if size_bytes > self._max_bytes:
            raise MessageTooLarge(size_bytes, self._max_bytes)

    def _learn_size_limit(self, error: BaseException) -> None:
        # the refusal ends the channel, so the other messages in flight fail with it too
        refusal = _SIZE_REFUSAL.search(str(error))
        if refusal is not None:
            self._max_bytes = min(int(refusal[1]), _MAX_MESSAGE_BYTES)
            self._max_bytes_until = time.monotonic() + _SIZE_LIMIT_TTL_S

    async def get_queue_depth(self, queue: str) -> int:
        """Ready messages of a queue. Raises Unavailable (also when the queue is not there)."""
        channel = await self._open()
        try:
            return await get_queue_depth(channel, queue, self._timeout_s)
        except BROKER_ERRORS as error:
            await self._discard(channel)
            raise Unavailable("queue_unknown", f"RabbitMQ does not tell about {queue}: {error!r}") from error

    async def ping(self) -> None:
        """Raises Unavailable unless there is an open channel, or one can be opened now."""
        await self._open()

    async def close(self) -> None:
        """Close the connection; what is in flight is lost to this process and found by the relay."""
        if self._channel is not None:
            await self._discard(self._channel)

    async def _open(self) -> AbstractChannel:
        channel = self._channel
        if channel is not None and not channel.is_closed:
            return channel
        async with self._opening:
            if self._channel is not None and not self._channel.is_closed:
                return self._channel
            if time.monotonic() < self._closed_until:
                raise Unavailable("rabbitmq_unavailable", "RabbitMQ could not be reached a moment ago.")
            try:
                return await self._connect()
            except BROKER_ERRORS as error:
                self._closed_until = time.monotonic() + _RETRY_CONNECT_S
                raise Unavailable("rabbitmq_unavailable", f"RabbitMQ cannot be reached: {error!r}") from error

    async def _connect(self) -> AbstractChannel:
        async with asyncio.timeout(self._timeout_s):
            connection = await connect(self._url, name=self._name, timeout_s=self._timeout_s)
            try:
                channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                await declare_topology(channel, self._timeout_s)
                events = await channel.get_exchange(topology.EVENTS_EXCHANGE, ensure=False)
            except BaseException:
                await connection.close()
                raise
        self._exchanges = {topology.EVENTS_EXCHANGE: events, "": channel.default_exchange}
        self._connection, self._channel = connection, channel
        return channel

    async def _discard(self, channel: AbstractChannel) -> None:
        if self._channel is not channel:
            return
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            try:
                await asyncio.wait_for(connection.close(), 1)
            except BROKER_ERRORS:
                return
