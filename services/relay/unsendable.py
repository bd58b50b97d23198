"""Keeps what cannot be sent from holding up the rest: a pause that grows, and a dead letter when it is hopeless."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from random import getrandbits
from uuid import UUID

from services.relay.messages import Unsendable
from tracking.domain.errors import Unavailable
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.infra import metrics
from tracking.infra.postgres import Connection
from tracking.tables.dead_letters import delivery
from tracking.tables.dead_letters.delivery import NewDeadLetter
from tracking.tables.event_batches import BatchRow

_log = logging.getLogger(__name__)
_MAX_PAUSE_S = 60.0
# How often a batch fails although others were sent in between, before it is given up; about two minutes.
_MAX_FAILURES = 6


async def save_dead_letters(
    connection: Connection, batch: BatchRow, consumers: Sequence[str], unsendable: Unsendable
) -> None:
    """Save a dead letter of the batch for each of the consumers, so that somebody can decide about it."""
    for consumer in consumers:
        _log.error("batch %s cannot be sent to %s: %s", batch.id, consumer, unsendable.error)
        letter = NewDeadLetter(
            id=make_uuid7(to_unix_ms(datetime.now(UTC)), getrandbits(74)),
            consumer=consumer,
            batch_id=batch.id,
            is_batch=True,
            message_id=str(batch.id),
            reason="not_sendable",
            error=unsendable.error,
            deliveries=0,
            partner_system_ids=list(dict.fromkeys(batch.partner_system_ids)),
            event_ids=unsendable.event_ids,
            body=b"",
            body_sha256=sha256(b"").digest(),
            body_bytes=0,
        )
        await delivery.save_dead_letter(connection, letter)
        metrics.dead_letters.labels(consumer, "not_sendable").inc()


def concerns_every_message(error: Unavailable) -> bool:
    """Whether the broker would not take any other message either: it cannot be reached, or a queue is full."""
    return error.code in ("rabbitmq_unavailable", "publish_refused")


@dataclass(slots=True)
class _Pause:
    failures: int
    until: float
    sent_before: int


class Postponed:
    """Batches and dead letters that could not be sent, perhaps for a reason of their own; each waits for longer."""

    def __init__(self, step: str) -> None:
        self._by_id: dict[UUID, _Pause] = {}
        self._sent = 0
        metrics.sendings_postponed.labels(step).set_function(lambda: len(self._by_id))

    def list_waiting(self) -> list[UUID]:
        """Return what must not be tried yet."""
        now = time.monotonic()
        # what was not tried when its pause was over has been sent by another process, or was decided about
        self._by_id = {id_: pause for id_, pause in self._by_id.items() if pause.until + _MAX_PAUSE_S > now}
        return [id_ for id_, pause in self._by_id.items() if pause.until > now]

    def record_done(self, id_: UUID) -> None:
        """Record that it was sent, or was given up."""
        self._sent += 1
        self._by_id.pop(id_, None)

    def record_failure(self, id_: UUID) -> bool:
        """Record a failure and return whether it is hopeless.

        A failure counts only if others were sent since the last one. Otherwise the broker may be at fault.
        """
        pause = self._by_id.setdefault(id_, _Pause(0, 0.0, -1))
        if pause.sent_before != self._sent:
            pause.failures += 1
            pause.sent_before = self._sent
        pause.until = time.monotonic() + min(2.0**pause.failures, _MAX_PAUSE_S)
        return pause.failures >= _MAX_FAILURES
