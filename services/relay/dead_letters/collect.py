"""Moves dead letters from the broker to `write.dead_letters`; each is acknowledged only after its commit.

A message that cannot be saved now stays in hand, unacknowledged, until it can: RabbitMQ 4.0 to 4.2 drop one that was
given back to a dead-letter queue 20 times. A readable message that the broker gave up by its own count, and no consumer
did, is sent to its consumer again.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import getrandbits
from typing import Any
from uuid import UUID

import asyncpg
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue

from services.relay import messages
from tracking.contracts import events_tracked, topology
from tracking.domain.dead_letter import DeadLetterReason
from tracking.domain.errors import Unavailable
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.infra import metrics, postgres, rabbitmq
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher
from tracking.tables import apply_failures, event_batches
from tracking.tables.dead_letters import delivery
from tracking.tables.dead_letters.delivery import NewDeadLetter

_log = logging.getLogger(__name__)
_MAX_MESSAGES_PER_RUN = 200
# A retry of a stored batch is made from the database; the body is kept only for people to look at.
_BATCH_BODY_BYTES = 16 * 1024
_OTHER_BODY_BYTES = 1024 * 1024
_ERROR_CHARACTERS = 2000
# PostgreSQL rejected a value: the message stays in the queue, and the relay continues with its other work.
_DATA_ERRORS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


@dataclass(frozen=True, slots=True)
class _Content:
    """The batch and the events of a message; `fault` says why it cannot be read."""

    batch_id: UUID | None
    attempt_id: UUID | None
    is_batch: bool
    partner_system_ids: Sequence[UUID]
    event_ids: Sequence[UUID]
    fault: str | None


class _NotSaved(Exception):
    """The database did not take a dead letter; the cause is its error."""


@dataclass(slots=True)
class DeadLetterCollector:
    """Empties the dead-letter queue of one consumer."""

    consumer: str
    write: Pool
    read: Pool
    publisher: Publisher
    rabbitmq_url: str
    timeout_s: float
    # open while messages are in hand that could not be saved
    _connection: AbstractConnection | None = None
    _source: AbstractQueue | None = None
    _held: list[AbstractIncomingMessage] = field(default_factory=list)

    async def collect(self) -> None:
        """Collect up to 200 messages. Raises postgres.TRANSIENT_ERRORS; the messages then stay in hand."""
        queue = topology.get_queue_names(self.consumer).dead_letter
        try:
            if not self._held and not await self.publisher.get_queue_depth(queue):
                return
            for pool in (self.write, self.read):
                await postgres.ping(pool)
            await self._empty(queue)
        except _NotSaved as error:
            if isinstance(error.__cause__, postgres.TRANSIENT_ERRORS):
                raise error.__cause__ from None
            _log.error("a dead letter of %s cannot be saved now: %s", self.consumer, error.__cause__)
        except Unavailable as error:
            _log.warning("dead letters of %s wait: %s", self.consumer, error)
        except rabbitmq.BROKER_ERRORS as error:
            _log.warning("dead letters of %s wait in the broker: %s", self.consumer, error)
            await self._close()

    async def _empty(self, queue: str) -> None:
        source = self._source
        if source is None or self._connection is None or self._connection.is_closed:
            source = await self._open(queue)
        for held in list(self._held):
            await self._save_and_acknowledge(held)
        while len(self._held) < _MAX_MESSAGES_PER_RUN:
            message = await source.get(no_ack=False, fail=False, timeout=self.timeout_s)
            if message is None:
                break
            self._held.append(message)
            await self._save_and_acknowledge(message)
        if not self._held:
            await self._close()

    async def _open(self, queue: str) -> AbstractQueue:
        self._held.clear()
        self._connection = await rabbitmq.connect(
            self.rabbitmq_url, name="tracking-relay-dead", timeout_s=self.timeout_s
        )
        channel = await self._connection.channel(publisher_confirms=False)
        self._source = await channel.get_queue(queue, ensure=False)
        return self._source

    async def _close(self) -> None:
        connection, self._connection, self._source = self._connection, None, None
        self._held.clear()
        if connection is not None:
            try:
                await asyncio.wait_for(connection.close(), self.timeout_s)
            except rabbitmq.BROKER_ERRORS as error:
                _log.debug("closing: %s", error)

    async def _save_and_acknowledge(self, message: AbstractIncomingMessage) -> None:
        try:
            await self._save(message)
        except _DATA_ERRORS as error:
            _log.error("a dead letter of %s cannot be kept and stays in the broker: %s", self.consumer, error)
            return
        except postgres.POSTGRES_ERRORS as error:
            raise _NotSaved from error
        await message.ack()
        self._held.remove(message)

    async def _save(self, message: AbstractIncomingMessage) -> None:
        body: bytes = message.body
        fault: str | None = None
        try:
            body = rabbitmq.decode_body(message)
        except rabbitmq.UnreadableContent as unreadable:
            fault = str(unreadable)
        content = await self._look_into(message, body, fault)
        failure = await apply_failures.find_failure(self.read, self.consumer, content.attempt_id)
        cause = _find_cause(message)
        is_given_up = failure is not None and failure.is_final
        is_healthy = cause == "delivery_limit" and content.fault is None and not is_given_up
        if is_healthy and await self._send_back(message, body):
            return
        error, attempts = content.fault, 1
        if failure is not None:
            error, attempts = failure
        kept_bytes = _BATCH_BODY_BYTES if content.is_batch else _OTHER_BODY_BYTES
        letter = NewDeadLetter(
            id=make_uuid7(to_unix_ms(datetime.now(UTC)), getrandbits(74)),
            consumer=self.consumer,
            batch_id=content.batch_id,
            is_batch=content.is_batch,
            message_id=message.message_id and message.message_id.replace("\0", "\ufffd"),
            reason=_find_reason(cause, content.fault),
            error=error and error.replace("\0", "\ufffd")[:_ERROR_CHARACTERS],
            deliveries=attempts,
            partner_system_ids=content.partner_system_ids,
            event_ids=content.event_ids,
            body=body[:kept_bytes],
            body_sha256=hashlib.sha256(body).digest(),
            body_bytes=len(body),
        )
        await delivery.save_dead_letter(self.write, letter)
        _log.error("a dead letter of %s: batch %s, %s: %s", self.consumer, content.batch_id, letter.reason, error)

    async def _send_back(self, message: AbstractIncomingMessage, body: bytes) -> bool:
        """Send a message to its consumer again. The broker begins to count anew; its consumer's count stays."""
        _log.warning("%s was given up by the broker alone and is sent to %s again", message.message_id, self.consumer)
        queue = topology.get_queue_names(self.consumer).work
        try:
            await messages.publish_message(
                self.publisher,
                body,
                message.message_id or "",
                reason="given_up_by_broker",
                only_to=queue,
                message_type=message.type or events_tracked.MESSAGE_TYPE,
            )
        except Unavailable:
            return False
        metrics.batches_republished.labels("given_up_by_broker").inc()
        return True

    async def _look_into(self, message: AbstractIncomingMessage, body: bytes, fault: str | None) -> _Content:
        """Find the batch and the events of a message: in the write database, otherwise in the message itself."""
        batch = None
        batch_id: UUID | None
        attempt_id: UUID | None
        try:
            batch = events_tracked.decode(body)
            batch_id = batch.batch_id
            attempt_id = apply_failures.make_attempt_id(batch_id, 0 if batch.part is None else batch.part.first)
        except events_tracked.UnreadableMessage as error:
            fault = fault or str(error)
            attempt_id = batch_id = _uuid(message.message_id)
        stored = await event_batches.find_batch(self.write, batch_id)
        if stored is not None:
            systems = list(dict.fromkeys(stored.partner_system_ids))
            return _Content(batch_id, attempt_id, True, systems, stored.event_ids, fault)
        if batch is None:
            return _Content(None, None, False, [], [], fault)
        event_ids = [known for known in map(_uuid, batch.ids) if known]
        systems = [system.partner_system_id for system in batch.systems]
        return _Content(batch_id, attempt_id, False, systems, event_ids, None)


def _find_cause(message: AbstractIncomingMessage) -> str:
    """Return the cause of the last dead-lettering: `rejected`, `delivery_limit`, or "" if a person put it there."""
    match message.headers.get("x-death"):
        case [{"reason": str(reason)}, *_]:
            return reason
    return ""


def _find_reason(cause: str, fault: str | None) -> DeadLetterReason:
    if fault is not None:
        return "unreadable"
    return "not_applicable" if cause in ("rejected", "delivery_limit") else "unknown"


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None
