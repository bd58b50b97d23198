"""The relay's part of dead letters: it collects them, sends those to be retried, closes those that were applied.

The states that a statement may change are those of `tracking.domain.dead_letter`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tracking.domain.dead_letter import DeadLetterReason, DeadLetterState
from tracking.infra.postgres import Connection, Pool

EVENTS_ARE_GONE = "its events are gone: the write database no longer has them"


class NewDeadLetter(NamedTuple):
    """A row to insert; `body` may be the beginning only, `body_sha256` and `body_bytes` are those of the whole."""

    id: UUID
    consumer: str
    batch_id: UUID | None
    is_batch: bool
    message_id: str | None
    reason: DeadLetterReason
    error: str | None
    deliveries: int
    partner_system_ids: Sequence[UUID]
    event_ids: Sequence[UUID]
    body: bytes
    body_sha256: bytes
    body_bytes: int


_INSERT_DEAD_LETTER = """
insert into write.dead_letters as known
       (id, consumer, batch_id, is_batch, message_id, reason, error, deliveries, partner_system_ids, event_ids,
        body, body_sha256, body_bytes)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    on conflict
"""

# A decision to retry that was not carried out yet stays, as does one to discard.
_UPDATE_KNOWN = """
    do update set reason = excluded.reason,
                  error = coalesce(excluded.error, known.error),
                  deliveries = excluded.deliveries,
                  last_seen_at = now(),
                  times = known.times + 1,
                  state = case
                              when known.state = 'discarded' then 'discarded'
                              when known.state = 'retried' and known.sent_at is null then 'retried'
                              else 'open'
                          end
"""
_UPSERT_BATCH = _INSERT_DEAD_LETTER + " (consumer, batch_id) where batch_id is not null " + _UPDATE_KNOWN
_UPSERT_OTHER = _INSERT_DEAD_LETTER + " (consumer, body_sha256) where batch_id is null " + _UPDATE_KNOWN


async def save_dead_letter(write: Pool | Connection, letter: NewDeadLetter) -> None:
    """Save a dead letter. A message that was a dead letter before keeps its row."""
    await write.execute(_UPSERT_OTHER if letter.batch_id is None else _UPSERT_BATCH, *letter)


class LetterToSend(NamedTuple):
    """A dead letter that is to be retried. If it `is_batch`, its message is rebuilt from the events."""

    id: UUID
    batch_id: UUID | None
    is_batch: bool
    message_id: str | None
    body: bytes


# A discard that comes meanwhile waits for the row.
_SELECT_TO_SEND = """
select id, batch_id, is_batch, message_id, body
  from write.dead_letters
 where consumer = $1
   and state = 'retried'
   and sent_at is null
   and id <> all ($3::uuid[])
 order by id
 limit $2
   for no key update
"""


async def list_to_send(write: Connection, consumer: str, limit: int, besides: Sequence[UUID]) -> list[LetterToSend]:
    """Lock and return the dead letters to send to the consumer again, except `besides`, inside a transaction."""
    return [LetterToSend(*row) for row in await write.fetch(_SELECT_TO_SEND, consumer, limit, besides)]


_UPDATE_SENT = """
update write.dead_letters
   set sent_at = now()
 where id = $1
"""


async def mark_sent(write: Connection, letter_id: UUID) -> None:
    """Record that the broker has confirmed the dead letter."""
    await write.execute(_UPDATE_SENT, letter_id)


_UPDATE_OPEN = """
update write.dead_letters
   set state = 'open', error = $2
 where id = $1
"""


async def reopen(write: Connection, letter_id: UUID, error: str) -> None:
    """Open a dead letter again that cannot be sent, so that it waits for another decision."""
    await write.execute(_UPDATE_OPEN, letter_id, error)


class BatchLetter(NamedTuple):
    """A dead letter that names a batch; `created_at` is the batch's, None if it is not in the write database."""

    batch_id: UUID
    state: DeadLetterState
    sent_at: datetime | None
    created_at: datetime | None


_SELECT_BATCH_LETTERS = """
select l.batch_id, l.state, l.sent_at, b.created_at
  from write.dead_letters l
  left join write.event_batches b on b.id = l.batch_id
 where l.consumer = $1
   and l.batch_id is not null
   and (l.state in ('open', 'retried') or l.batch_id > $2)
"""


async def list_batch_letters(write: Pool, consumer: str, after: UUID) -> list[BatchLetter]:
    """Return the dead letters of batches that are open or retried, or whose batch comes after the given one."""
    return [BatchLetter(*row) for row in await write.fetch(_SELECT_BATCH_LETTERS, consumer, after)]


_UPDATE_APPLIED = """
update write.dead_letters
   set state = 'applied', decided_at = now()
 where consumer = $1
   and batch_id = any($2::uuid[])
   and state in ('open', 'retried')
"""


async def mark_applied(write: Pool, consumer: str, batch_ids: Sequence[UUID]) -> None:
    """Close the dead letters of batches that are in the consumer's inbox."""
    await write.execute(_UPDATE_APPLIED, consumer, batch_ids)


_COUNT_OPEN = """
select count(*)
  from write.dead_letters
 where consumer = $1
   and state = 'open'
"""


async def count_open(write: Pool, consumer: str) -> int:
    """Return how many dead letters of the consumer wait for a decision."""
    return int(await write.fetchval(_COUNT_OPEN, consumer))


_DELETE_CLOSED = """
delete from write.dead_letters as letter
 where state in ('applied', 'discarded')
   and coalesce(decided_at, last_seen_at) < $1
   and (
        batch_id is null
        or exists (
            select
              from write.consumer_positions as position
             where position.consumer = letter.consumer
               and position.applied_through >= letter.batch_id
           )
       )
"""


async def delete_closed(write: Pool, before: datetime) -> None:
    """Delete dead letters that were applied or discarded before a time and that their consumer's position passed."""
    await write.execute(_DELETE_CLOSED, before)
