"""Consumes the queue of a worker: takes the messages at hand and has them applied and acknowledged (`deliveries`).

a message cannot be read    It is moved to the dead-letter queue at once.
a batch cannot be applied   It stays in hand and is tried again, whatever the reason. Giving messages back to the
                            queue would raise the broker's count, and help nobody.
too many dead letters       The consumer stops and reports it, until an operator has decided about them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Generic

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tracking.contracts import topology
from tracking.domain.errors import Unavailable
from tracking.infra import metrics, postgres, rabbitmq
from tracking.infra.postgres import Pool
from tracking.tables import consumer_progress
from tracking.worker.batch_parts import B
from tracking.worker.deliveries import Deliveries

_log = logging.getLogger(__name__)
_RETRY_DELAY_S = 5.0
_BEAT_INTERVAL_S = 1.0
_QUEUE_CHECK_INTERVAL_S = 5.0
# Under load, not more than a transaction in this time: what each costs is shared by the events that gather meanwhile.
# The first after a pause is applied at once.
_MIN_GROUP_INTERVAL_S = 0.05
# A message that arrives while the queue depth is read counts as ready too, so a single reading proves nothing; two in a
# row do.
_MAX_UNSERVED_READINGS = 2


class DeadLetterLimitReached(Exception):
    """So many messages have become dead letters that the cause must be a general one."""


class _SessionOver(Exception):
    """The channel, the queue or its subscription has gone, so the consumer must connect again."""


_RECONNECT_ERRORS: tuple[type[BaseException], ...] = (_SessionOver, Unavailable, *rabbitmq.BROKER_ERRORS)


class InboxConsumer(Generic[B]):
    """Consumes the queue of `consumer` into its inbox; `pool` is of the read database.

    `decode` turns the body of a message into a batch, and raises `unreadable` if it cannot. `take_deliveries` makes the
    deliveries of a new channel.
    """

    def __init__(
        self,
        *,
        consumer: str,
        rabbitmq_url: str,
        pool: Pool,
        decode: Callable[[bytes], B],
        unreadable: type[Exception],
        take_deliveries: Callable[[], Deliveries[B]],
        prefetch_messages: int,
        dead_letter_limit: int,
        timeout_s: float,
    ) -> None:
        self._consumer = consumer
        self._url = rabbitmq_url
        self._pool = pool
        self._decode = decode
        self._unreadable = unreadable
        self._take_deliveries = take_deliveries
        self._prefetch = prefetch_messages
        self._dead_letter_limit = dead_letter_limit
        self._timeout_s = timeout_s
        self._queue = topology.get_queue_names(consumer)
        self._stopping = asyncio.Event()
        # how often in a row messages waited in the queue that did not come
        self._unserved = 0
        self._next_group_at = 0.0
        self.state = "starting"

    async def ping(self) -> None:
        """Raises Unavailable unless messages are being consumed."""
        if self.state != "consuming":
            raise Unavailable("not_consuming", f"{self._consumer} is {self.state}")

    def stop(self) -> None:
        """Take no more messages. `run` returns when the messages in hand are applied."""
        self._stopping.set()

    async def run(self, beat: Callable[[], None]) -> None:
        """Consume until `stop`, connecting again after every failure. Calls `beat` at least every few seconds."""
        while not self._stopping.is_set():
            beat()
            try:
                await postgres.ping(self._pool)
                await self._session(beat)
            except DeadLetterLimitReached as error:
                self.state = f"paused: {error}"
                metrics.consumer_paused.labels(self._consumer).set(1)
                _log.error("%s", error)
                await self._pause(_RETRY_DELAY_S, beat)
            except _RECONNECT_ERRORS as error:
                self.state = f"connecting again: {postgres.describe_error(error)}"
                _log.warning("%s connects again: %s", self._consumer, postgres.describe_error(error))
                await self._pause(1, beat)
        self.state = "stopped"

    async def _pause(self, seconds: float, beat: Callable[[], None]) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self._stopping.is_set():
            beat()
            await asyncio.sleep(min(0.5, seconds))

    async def _session(self, beat: Callable[[], None]) -> None:
        connection = await rabbitmq.connect(self._url, name=f"tracking-{self._consumer}", timeout_s=self._timeout_s)
        try:
            channel = await connection.channel(publisher_confirms=False)
            self._unserved = 0
            await rabbitmq.declare_topology(channel, self._timeout_s)
            await self._check_dead_letters(channel)
            metrics.consumer_paused.labels(self._consumer).set(0)
            await channel.set_qos(prefetch_count=self._prefetch, timeout=self._timeout_s)
            await self._consume(channel, beat)
        finally:
            try:
                await asyncio.wait_for(connection.close(), 2)
            except rabbitmq.BROKER_ERRORS as error:
                _log.debug("closing: %s", error)

    async def _consume(self, channel: AbstractChannel, beat: Callable[[], None]) -> None:
        arrived: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()

        def on_end(*_: Any) -> None:
            arrived.put_nowait(None)

        channel.close_callbacks.add(on_end)
        underlay = await channel.get_underlay_channel()
        # the broker cancels a consumer whose queue is deleted; aio-pika's plain channel does not pass that on
        underlay.on_consumer_cancel_callbacks.add(on_end)
        queue = await channel.get_queue(self._queue.work, ensure=False)
        tag = await queue.consume(arrived.put, timeout=self._timeout_s)
        self.state = "consuming"
        stopping = asyncio.create_task(self._stopping.wait())
        stopping.add_done_callback(on_end)
        deliveries = self._take_deliveries()
        checked_at, checked_with = time.monotonic(), 0
        try:
            while True:
                beat()
                # also now and then: the broker moves a dead letter, and the relay counts it, a little later
                if deliveries.given_up != checked_with or time.monotonic() - checked_at > _QUEUE_CHECK_INTERVAL_S:
                    await self._check_dead_letters(channel, needs_database=False)
                    checked_at, checked_with = time.monotonic(), deliveries.given_up
                is_over = await self._receive(arrived, channel, deliveries)
                await self._keep_beating(deliveries.apply_next(), beat)
                self.state = f"waiting for its database: {deliveries.outage}" if deliveries.outage else "consuming"
                if is_over and not self._stopping.is_set():
                    raise _SessionOver("the channel or the queue has gone")
                if self._stopping.is_set():
                    await queue.cancel(tag, timeout=self._timeout_s)
                    await self._drain(arrived, channel, deliveries, beat)
                    return
        finally:
            stopping.cancel()

    async def _keep_beating(self, work: Coroutine[Any, Any, None], beat: Callable[[], None]) -> None:
        """Wait for the work, which ends by the time limits of the database, and report to liveness meanwhile."""
        task = asyncio.create_task(work)
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=_BEAT_INTERVAL_S)
                beat()
            await task
        finally:
            task.cancel()

    async def _drain(
        self,
        arrived: asyncio.Queue[AbstractIncomingMessage | None],
        channel: AbstractChannel,
        deliveries: Deliveries[B],
        beat: Callable[[], None],
    ) -> None:
        """Finish the messages that were prefetched, so that no other process begins them again.

        Those that cannot be applied now return to the queue when the connection is closed.
        """
        while True:
            while not arrived.empty():
                await self._decode_into(deliveries, arrived.get_nowait(), channel)
            if not deliveries.is_ready or deliveries.outage:
                return
            await self._keep_beating(deliveries.apply_next(), beat)

    async def _receive(
        self,
        arrived: asyncio.Queue[AbstractIncomingMessage | None],
        channel: AbstractChannel,
        deliveries: Deliveries[B],
    ) -> bool:
        """Wait until there is something to apply, then take messages that have arrived, up to the group's size.

        Returns True at the end of the session.
        """
        wait_s = deliveries.get_wait_s()
        if wait_s != 0.0:
            limit_s = _QUEUE_CHECK_INTERVAL_S if wait_s is None else min(wait_s, _QUEUE_CHECK_INTERVAL_S)
            try:
                message = await asyncio.wait_for(arrived.get(), limit_s)
            except TimeoutError:
                if wait_s is None or wait_s > limit_s:
                    await self._check_unserved(channel, deliveries)
                return False
            # with a backlog there is nothing to wait for, and what was handed back is tried again at once
            is_first_try = message is not None and not message.redelivered
            if is_first_try and arrived.qsize() < self._prefetch // 2:
                await asyncio.sleep(max(0.0, self._next_group_at - time.monotonic()))
            self._next_group_at = time.monotonic() + _MIN_GROUP_INTERVAL_S
            if await self._decode_into(deliveries, message, channel):
                return True
        while not arrived.empty() and not deliveries.has_full_group:
            if await self._decode_into(deliveries, arrived.get_nowait(), channel):
                return True
        return False

    async def _check_unserved(self, channel: AbstractChannel, deliveries: Deliveries[B]) -> None:
        """Nothing came: make sure that the queue is there and empty, unless no more may come.

        A queue that was deleted, and created again by another worker at the same moment, has no consumer here, and the
        broker does not say so.
        """
        waiting = await rabbitmq.get_queue_depth(channel, self._queue.work, self._timeout_s)
        self._unserved = self._unserved + 1 if waiting and len(deliveries) < self._prefetch else 0
        if self._unserved >= _MAX_UNSERVED_READINGS:
            raise _SessionOver(f"{waiting} messages wait in the queue and do not come")

    async def _decode_into(
        self, deliveries: Deliveries[B], message: AbstractIncomingMessage | None, channel: AbstractChannel
    ) -> bool:
        """Add a message to the deliveries, or reject one that nobody can read. None ends the session: returns True."""
        if message is None:
            return True
        try:
            body = rabbitmq.decode_body(message)
            batch = self._decode(body)
        except (self._unreadable, rabbitmq.UnreadableContent) as error:
            await self._dead_letter(channel, message, "unreadable", error)
        else:
            await deliveries.add(message, batch, len(body))
        return False

    async def _dead_letter(
        self, channel: AbstractChannel, message: AbstractIncomingMessage, reason: str, error: Exception
    ) -> None:
        _log.error("%s gives up message %s: %s", self._consumer, message.message_id, error)
        await message.reject(requeue=False)
        metrics.dead_letters.labels(self._consumer, reason).inc()
        await self._check_dead_letters(channel)

    async def _check_dead_letters(self, channel: AbstractChannel, *, needs_database: bool = True) -> None:
        """Raise DeadLetterLimitReached if there are too many.

        Dead letters that the relay has collected count until a person decides about them. A database that does not
        answer is Unavailable if it is needed. Messages in hand are not given back for that.
        """
        count = await rabbitmq.get_queue_depth(channel, self._queue.dead_letter, self._timeout_s)
        try:
            count += await consumer_progress.read_open_dead_letters(self._pool, self._consumer)
        except postgres.POSTGRES_ERRORS as error:
            if not needs_database:
                return
            raise Unavailable("postgres_unavailable", postgres.describe_error(error)) from error
        if count >= self._dead_letter_limit:
            raise DeadLetterLimitReached(
                f"{self._consumer} has {count} dead letters (limit {self._dead_letter_limit}): retry or discard them "
                f"(dead-letters list --consumer {self._consumer}), then consumption goes on by itself"
            )
