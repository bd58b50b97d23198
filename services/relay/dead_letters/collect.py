"""Moves dead letters from the broker to `write.dead_letters`; each is acknowledged only after its commit."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import getrandbits
from typing import Any
from uuid import UUID

import asyncpg
from aio_pika.abc import AbstractIncomingMessage

from tracking.contracts import events_tracked, topology
from tracking.domain.dead_letter import DeadLetterReason
from tracking.domain.errors import Unavailable
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.infra import postgres, rabbitmq
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
_UNAVAILABLE_ERRORS: tuple[type[BaseException], ...] = (Unavailable, *rabbitmq.BROKER_ERRORS)
# PostgreSQL rejected a value: the message stays in the queue, and the relay continues with its other work.
_DATA_ERRORS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
_REASONS: dict[str, DeadLetterReason] = {"rejected": "unreadable", "delivery_limit": "not_applicable"}


@dataclass(frozen=True, slots=True)
class _Content:
    """The batch and the events of a message; `fault` says why it cannot be read."""

    batch_id: UUID | None
    is_batch: bool
    partner_system_ids: Sequence[UUID]
    event_ids: Sequence[UUID]
    fault: str | None


@dataclass(slots=True)
class DeadLetterCollector:
    """Empties the dead-letter queue of one consumer."""

    consumer: str
    write: Pool
    read: Pool
    publisher: Publisher
    rabbitmq_url: str
    timeout_s: float

    async def collect(self) -> None:
        """Collect up to 200 messages.

        Raises postgres.TRANSIENT_ERRORS; uncommitted messages are then in the queue again.
        """
        queue = topology.get_queue_names(self.consumer).dead_letter
        try:
            if not await self.publisher.get_queue_depth(queue):
                return
            # This is checked before any message is taken, because RabbitMQ 4 drops a message that was returned 20
            # times.
            for pool in (self.write, self.read):
                await postgres.ping(pool)
            await self._empty(queue)
        except _UNAVAILABLE_ERRORS as error:
            _log.warning("dead letters of %s wait in the broker: %s", self.consumer, error)

    async def _empty(self, queue: str) -> None:
        connection = await rabbitmq.connect(self.rabbitmq_url, name="tracking-relay-dead", timeout_s=self.timeout_s)
        async with connection:
            channel = await connection.channel(publisher_confirms=False)
            source = await channel.get_queue(queue, ensure=False)
            for _ in range(_MAX_MESSAGES_PER_RUN):
                message = await source.get(no_ack=False, fail=False, timeout=self.timeout_s)
                if message is None:
                    return
                try:
                    await self._save(message)
                except _DATA_ERRORS as error:
                    _log.error("a dead letter of %s cannot be kept and stays in the broker: %s", self.consumer, error)
                else:
                    await message.ack()

    async def _save(self, message: AbstractIncomingMessage) -> None:
        body: bytes = message.body
        fault: str | None = None
        try:
            body = rabbitmq.decode_body(message)
        except rabbitmq.UnreadableContent as unreadable:
            fault = str(unreadable)
        content = await self._look_into(message, body, fault)
        cause = _cause(message)
        reason = _REASONS.get(cause, "unreadable" if content.fault else "unknown")
        error, deliveries = content.fault, topology.DELIVERY_LIMIT + 1 if cause == "delivery_limit" else 1
        failure = await apply_failures.find_failure(self.read, self.consumer, content.batch_id)
        if failure is not None:
            error, deliveries = failure
        kept_bytes = _BATCH_BODY_BYTES if content.is_batch else _OTHER_BODY_BYTES
        letter = NewDeadLetter(
            id=make_uuid7(to_unix_ms(datetime.now(UTC)), getrandbits(74)),
            consumer=self.consumer,
            batch_id=content.batch_id,
            is_batch=content.is_batch,
            message_id=message.message_id and message.message_id.replace("\0", "\ufffd"),
            reason=reason,
            error=error and error.replace("\0", "\ufffd")[:_ERROR_CHARACTERS],
            deliveries=deliveries,
            partner_system_ids=content.partner_system_ids,
            event_ids=content.event_ids,
            body=body[:kept_bytes],
            body_sha256=hashlib.sha256(body).digest(),
            body_bytes=len(body),
        )
        await delivery.save_dead_letter(self.write, letter)
        _log.error("a dead letter of %s: batch %s, %s: %s", self.consumer, content.batch_id, reason, error)

    async def _look_into(self, message: AbstractIncomingMessage, body: bytes, fault: str | None) -> _Content:
        """Find the batch and the events of a message: in the write database, otherwise in the message itself."""
        batch = None
        batch_id: UUID | None
        try:
            batch = events_tracked.decode(body)
            batch_id = batch.batch_id
        except events_tracked.UnreadableMessage as error:
            fault = fault or str(error)
            batch_id = _uuid(message.message_id)
        stored = await event_batches.find_batch(self.write, batch_id)
        if stored is not None:
            systems = list(dict.fromkeys(stored.partner_system_ids))
            return _Content(batch_id, True, systems, stored.event_ids, fault)
        if batch is None:
            return _Content(None, False, [], [], fault)
        event_ids = [known for known in map(_uuid, batch.ids) if known]
        return _Content(batch_id, False, [system.partner_system_id for system in batch.systems], event_ids, None)


def _cause(message: AbstractIncomingMessage) -> str:
    """Return the cause of the last dead-lettering: `rejected`, `delivery_limit`, or "" if a person put it there."""
    match message.headers.get("x-death"):
        case [{"reason": str(reason)}, *_]:
            return reason
    return ""


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        return None
