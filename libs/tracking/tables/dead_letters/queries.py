"""Lists and shows dead letters, for the person who decides about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tracking.domain.dead_letter import DeadLetterReason, DeadLetterState
from tracking.domain.errors import NotFound
from tracking.infra.postgres import Connection

_MAX_BODY_START_BYTES = 4096


@dataclass(frozen=True, slots=True)
class AffectedSystem:
    """A partner system with events in the batch; a name is None if the write database does not know the system."""

    id: UUID
    name: str | None
    partner_id: UUID | None
    partner_name: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`deliveries` is how often the message was handed out the last time, `times` how often it was given up.

    `batch_id` is None for a message that names no batch. `decided_at` is when its state last changed by a decision, or
    by its being found applied.
    """

    id: UUID
    consumer: str
    state: DeadLetterState
    reason: DeadLetterReason
    error: str | None
    batch_id: UUID | None
    message_id: str | None
    event_count: int
    partner_systems: Sequence[AffectedSystem]
    deliveries: int
    times: int
    first_seen_at: datetime
    last_seen_at: datetime
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeadLetterDetails(DeadLetter):
    """A dead letter with its events' ids and the first 4 KiB of the body as text (invalid UTF-8 as U+FFFD)."""

    event_ids: Sequence[UUID]
    body_bytes: int
    body_start: str


_SELECT_COLUMNS = """
select l.id,
       l.consumer,
       l.state,
       l.reason,
       l.error,
       l.batch_id,
       l.message_id,
       cardinality(l.event_ids) as event_count,
       array(
           select row (known.id, s.name, p.id, p.name)
             from unnest(l.partner_system_ids) with ordinality as known (id, position)
             left join write.partner_systems s on s.id = known.id
             left join write.partners p on p.id = s.partner_id
            order by known.position
       ) as partner_systems,
       l.deliveries,
       l.times,
       l.first_seen_at,
       l.last_seen_at,
       l.decided_at
"""

_SELECT_PAGE = (
    _SELECT_COLUMNS
    + """
  from write.dead_letters l
 where ($1::text is null or l.consumer = $1)
   and ($2::text is null or l.state = $2)
 order by l.id
 limit $3
offset $4
"""
)

_COUNT_DEAD_LETTERS = """
select count(*)
  from write.dead_letters l
 where ($1::text is null or l.consumer = $1)
   and ($2::text is null or l.state = $2)
"""


async def list_dead_letters(
    connection: Connection, consumer: str | None, state: DeadLetterState | None, limit: int, offset: int
) -> tuple[list[DeadLetter], int]:
    """Return a page, the first seen first, and the number of all. A filter that is None matches everything."""
    rows = await connection.fetch(_SELECT_PAGE, consumer, state, limit, offset)
    total = await connection.fetchval(_COUNT_DEAD_LETTERS, consumer, state)
    return [DeadLetter(**_values(row)) for row in rows], int(total)


_SELECT_ONE = (
    _SELECT_COLUMNS
    + ", l.event_ids, l.body_bytes, substr(l.body, 1, $2) as body_start from write.dead_letters l where l.id = $1"
)


async def find_dead_letter(connection: Connection, letter_id: UUID) -> DeadLetterDetails:
    """Return a dead letter with its details. Raises NotFound."""
    row = await connection.fetchrow(_SELECT_ONE, letter_id, _MAX_BODY_START_BYTES)
    if row is None:
        raise make_not_found(letter_id)
    values = _values(row)
    return DeadLetterDetails(**{**values, "body_start": values["body_start"].decode(errors="replace")})


_SELECT_OPEN_IDS = """
select id
  from write.dead_letters
 where consumer = $1
   and state = 'open'
 order by id
"""


async def list_open_ids(connection: Connection, consumer: str) -> list[UUID]:
    """Return the ids of a consumer's dead letters that wait for a decision."""
    return [row["id"] for row in await connection.fetch(_SELECT_OPEN_IDS, consumer)]


def _values(row: Any) -> dict[str, Any]:
    return {**row, "partner_systems": [AffectedSystem(*system) for system in row["partner_systems"]]}


def make_not_found(letter_id: UUID) -> NotFound:
    """Return the error for an id that no dead letter has."""
    return NotFound("dead_letter_not_found", f"There is no dead letter {letter_id}.")
