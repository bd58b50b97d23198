"""Consumes the queue of a worker: takes the messages at hand as a group, applies it by the inbox, then acknowledges.

When the group fails:
    the database is away        keep the messages and try again; after a while requeue them and wait for the database
    a message cannot be read    move it to the dead-letter queue at once
    a message cannot be applied find it by applying one at a time; requeue it, until the broker's delivery limit
                                moves it to the dead-letter queue; the others of the group are applied
    too many dead letters       stop consuming and report it, until an operator has decided about them
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic
from uuid import UUID

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tracking.contracts import topology
from tracking.domain.errors import Unavailable
from tracking.infra import metrics, postgres, rabbitmq, telemetry
from tracking.infra.postgres import Pool
from tracking.tables import apply_failures, consumer_progress
from tracking.tables.apply_failures import ApplyFailure
from tracking.worker.batch_parts import B
from tracking.worker.inbox import Inbox

_log = logging.getLogger(__name__)
_MAX_DATABASE_WAIT_S = 30.0
_RETRY_DELAY_S = 5.0
_ERROR_CHARACTERS = 2000
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


@dataclass(slots=True)
class _Delivery(Generic[B]):
    message: AbstractIncomingMessage
    batch: B


class InboxConsumer(Generic[B]):
    """Consumes the queue of `consumer` into its inbox; `pool` is of the read database.

    `decode` turns the body of a message into a batch, and raises `unreadable` if it cannot.
    """

    def __init__(
        self,
        *,
        consumer: str,
        rabbitmq_url: str,
        pool: Pool,
        decode: Callable[[bytes], B],
        unreadable: type[Exception],
        inbox: Inbox[B],
        group_events: int,
        group_bytes: int,
        prefetch_messages: int,
        dead_letter_limit: int,
        timeout_s: float,
    ) -> None:
        self._consumer = consumer
        self._url = rabbitmq_url
        self._pool = pool
        self._decode = decode
        self._unreadable = unreadable
        self._inbox = inbox
        self._group_events = group_events
        self._group_bytes = group_bytes
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
        checked_at = time.monotonic()
        try:
            while True:
                beat()
                # also between failures: the broker moves a dead letter, and the relay counts it, a little later
                if time.monotonic() - checked_at > _QUEUE_CHECK_INTERVAL_S:
                    await self._check_dead_letters(channel)
                    checked_at = time.monotonic()
                group, is_over = await self._take(arrived, channel)
                if group:
                    await self._apply_group(channel, group)
                if is_over and not self._stopping.is_set():
                    raise _SessionOver("the channel or the queue has gone")
                if self._stopping.is_set():
                    await queue.cancel(tag, timeout=self._timeout_s)
                    await self._drain(arrived, channel)
                    return
        finally:
            stopping.cancel()

    async def _drain(self, arrived: asyncio.Queue[AbstractIncomingMessage | None], channel: AbstractChannel) -> None:
        # handing prefetched messages back would count as deliveries of theirs, so they are finished
        while not arrived.empty():
            group, _ = await self._take(arrived, channel)
            if group:
                await self._apply_group(channel, group)

    async def _take(
        self, arrived: asyncio.Queue[AbstractIncomingMessage | None], channel: AbstractChannel
    ) -> tuple[list[_Delivery[B]], bool]:
        """Wait for a message, then take those that have arrived, up to the group's size.

        Returns the group, and True at the end of the session.
        """
        group: list[_Delivery[B]] = []
        events = size_bytes = 0
        try:
            message = await asyncio.wait_for(arrived.get(), _QUEUE_CHECK_INTERVAL_S)
        except TimeoutError:
            # Nothing came: make sure that the queue is there and empty. One that was deleted, and created again by
            # another worker at the same moment, has no consumer here, and the broker does not say so.
            waiting = await rabbitmq.get_queue_depth(channel, self._queue.work, self._timeout_s)
            self._unserved = self._unserved + 1 if waiting else 0
            if self._unserved >= _MAX_UNSERVED_READINGS:
                raise _SessionOver(f"{waiting} messages wait in the queue and do not come") from None
            return group, False
        # with a backlog there is nothing to wait for, and what was handed back is tried again at once
        is_first_try = message is not None and not message.redelivered
        if is_first_try and arrived.qsize() < self._prefetch // 2:
            await asyncio.sleep(max(0.0, self._next_group_at - time.monotonic()))
        self._next_group_at = time.monotonic() + _MIN_GROUP_INTERVAL_S
        while True:
            if message is None:
                return group, True
            try:
                body = rabbitmq.decode_body(message)
                batch = self._decode(body)
            except (self._unreadable, rabbitmq.UnreadableContent) as error:
                await self._dead_letter(channel, message, "unreadable", error)
            else:
                group.append(_Delivery(message, batch))
                events += batch.event_count
                size_bytes += len(body)
            if events >= self._group_events or size_bytes >= self._group_bytes or arrived.empty():
                return group, False
            message = arrived.get_nowait()

    async def _apply_group(self, channel: AbstractChannel, group: list[_Delivery[B]]) -> None:
        parent = telemetry.extract_trace_context(dict(group[0].message.headers))
        with telemetry.span(f"apply {self._consumer}", parent=parent, batches=len(group)):
            try:
                await self._apply_with_retries([delivery.batch for delivery in group])
            except Unavailable:
                raise
            except Exception as error:
                if len(group) == 1:
                    await self._requeue(channel, group[0], error)
                    return
                _log.warning("a group of %d batches failed, trying one by one: %s", len(group), _describe(error))
                for delivery in group:
                    await self._apply_group(channel, [delivery])
                return
        # deliveries are settled in their order, so nothing before this group is open
        await group[-1].message.ack(multiple=True)

    async def _apply_with_retries(self, batches: Sequence[B]) -> None:
        """Apply batches. While the database is away, keep the messages, as a requeue would count as a delivery."""
        started = time.monotonic()
        pause_s = 0.1
        while True:
            try:
                await self._inbox.apply(batches)
                return
            except postgres.TRANSIENT_ERRORS as error:
                if time.monotonic() - started > _MAX_DATABASE_WAIT_S:
                    raise Unavailable("postgres_unavailable", f"{postgres.describe_error(error)}") from error
                _log.warning("%s waits for its database: %s", self._consumer, postgres.describe_error(error))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 2.0)

    async def _requeue(self, channel: AbstractChannel, delivery: _Delivery[B], error: Exception) -> None:
        message, batch_id = delivery.message, delivery.batch.batch_id
        delivered = int(str(message.headers.get("x-delivery-count", 0))) + 1
        said = _describe(error)
        _log.error("%s cannot apply batch %s (delivery %d): %s", self._consumer, batch_id, delivered, said)
        await self._save_failure(batch_id, ApplyFailure(said, delivered))
        await message.nack(requeue=True)
        if delivered > topology.DELIVERY_LIMIT:
            metrics.dead_letters.labels(self._consumer, "not_applicable").inc()
        await self._check_dead_letters(channel)

    async def _dead_letter(
        self, channel: AbstractChannel, message: AbstractIncomingMessage, reason: str, error: Exception
    ) -> None:
        _log.error("%s gives up message %s: %s", self._consumer, message.message_id, error)
        await message.reject(requeue=False)
        metrics.dead_letters.labels(self._consumer, reason).inc()
        await self._check_dead_letters(channel)

    async def _check_dead_letters(self, channel: AbstractChannel) -> None:
        """Raise DeadLetterLimitReached if there are too many.

        Dead letters that the relay has collected count until a person decides about them.
        """
        count = await rabbitmq.get_queue_depth(channel, self._queue.dead_letter, self._timeout_s)
        try:
            count += await consumer_progress.read_open_dead_letters(self._pool, self._consumer)
        except postgres.TRANSIENT_ERRORS as error:
            raise Unavailable("postgres_unavailable", postgres.describe_error(error)) from error
        if count >= self._dead_letter_limit:
            raise DeadLetterLimitReached(
                f"{self._consumer} has {count} dead letters (limit {self._dead_letter_limit}): retry or discard them "
                f"(dead-letters list --consumer {self._consumer}), then consumption goes on by itself"
            )

    async def _save_failure(self, batch_id: UUID, failure: ApplyFailure) -> None:
        """Save the failure for the person who decides about the dead letter. It is logged in any case."""
        try:
            await apply_failures.save_failure(self._pool, self._consumer, batch_id, failure)
        except postgres.POSTGRES_ERRORS as error:
            _log.warning("the failure of batch %s is in the log only: %s", batch_id, postgres.describe_error(error))


def _describe(error: Exception) -> str:
    """Return the first line of an error's text. Further lines of PostgreSQL quote the row, which may be personal."""
    return f"{type(error).__name__}: {error}".partition("\n")[0].replace("\0", "\ufffd")[:_ERROR_CHARACTERS]
