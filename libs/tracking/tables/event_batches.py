"""`write.event_batches`: one row for each committed batch, which names the events of the batch in their order.

The gateway inserts the row in the transaction of the events, so that it proves the commit, and marks it as published.
The relay publishes rows that are not marked, and looks up others to publish them again. A rebuild reads them by id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tracking.infra import copy_binary
from tracking.infra.copy_binary import Columns, Encoder
from tracking.infra.postgres import Connection, Pool


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row of the table: its n-th event is (partner_system_ids[n], event_ids[n])."""

    id: UUID
    created_at: datetime
    partner_system_ids: Sequence[UUID]
    event_ids: Sequence[UUID]


BATCH_ENCODERS: Mapping[str, Encoder] = {
    "id": copy_binary.encode_uuids,
    "created_at": copy_binary.encode_timestamps,
    "partner_system_ids": copy_binary.encode_uuid_arrays,
    "event_ids": copy_binary.encode_uuid_arrays,
}


def to_columns(batch: BatchRow) -> Columns:
    """Return one row as columns, in the order of `BATCH_ENCODERS`."""
    return [[batch.id], [batch.created_at], [batch.partner_system_ids], [batch.event_ids]]


_SELECT_ROWS = """
select id, created_at, partner_system_ids, event_ids
  from write.event_batches
"""
_SELECT_BY_ID = _SELECT_ROWS + " where id = $1"
_SELECT_BY_IDS = _SELECT_ROWS + " where id = any($1::uuid[]) order by id"
_SELECT_UNPUBLISHED = (
    _SELECT_ROWS + " where published_at is null and id < $1 and id <> all ($3::uuid[]) order by id limit $2"
)
_SELECT_BETWEEN = _SELECT_ROWS + " where id > $1 and id <= $2 order by id limit $3"


async def find_batch(write: Pool | Connection, batch_id: UUID | None) -> BatchRow | None:
    """Return the row of a batch, or None if it was never committed or retention has dropped it."""
    row = await write.fetchrow(_SELECT_BY_ID, batch_id)
    return None if row is None else BatchRow(*row)


async def list_batches(write: Connection, batch_ids: Sequence[UUID]) -> list[BatchRow]:
    """Return those of the batches that exist, in the order of their ids."""
    return [BatchRow(*row) for row in await write.fetch(_SELECT_BY_IDS, batch_ids)]


async def list_unpublished(write: Connection, before: UUID, limit: int, besides: Sequence[UUID]) -> list[BatchRow]:
    """Return the oldest batches without a confirm of the broker, with ids below `before`, except those of `besides`."""
    return [BatchRow(*row) for row in await write.fetch(_SELECT_UNPUBLISHED, before, limit, besides)]


async def list_between(write: Connection, after: UUID, through: UUID, limit: int) -> list[BatchRow]:
    """Return the next batches after one and up to another."""
    return [BatchRow(*row) for row in await write.fetch(_SELECT_BETWEEN, after, through, limit)]


class PublishedState(NamedTuple):
    """Whether a batch was published, without its events."""

    id: UUID
    created_at: datetime
    is_published: bool


_SELECT_STATES_AFTER = """
select id, created_at, published_at is not null as is_published
  from write.event_batches
 where id > $1
 order by id
 limit $2
"""


async def list_states_after(write: Pool, after: UUID, limit: int) -> list[PublishedState]:
    """Return the next batches after one, in the order of their ids."""
    return [PublishedState(*row) for row in await write.fetch(_SELECT_STATES_AFTER, after, limit)]


_UPDATE_PUBLISHED = """
update write.event_batches
   set published_at = $2
 where id = any($1::uuid[])
   and published_at is null
"""


async def mark_published(write: Pool | Connection, batch_ids: Sequence[UUID], at: datetime) -> None:
    """Record the broker's confirms. Raises postgres.POSTGRES_ERRORS; a second publish then does no harm."""
    await write.execute(_UPDATE_PUBLISHED, batch_ids, at)


_COUNT_UNPUBLISHED = """
select count(*) as number,
       (
           select created_at
             from write.event_batches
            where published_at is null
            order by id
            limit 1
       ) as oldest
  from write.event_batches
 where published_at is null
"""


async def count_unpublished(write: Pool) -> tuple[int, datetime | None]:
    """Return how many batches have no confirm of the broker, and when the first of them was created."""
    row = await write.fetchrow(_COUNT_UNPUBLISHED)
    assert row is not None  # noqa: S101 - a count has a row
    return row["number"], row["oldest"]


_COUNT_BETWEEN = """
select count(*)
  from write.event_batches
 where id > $1
   and id <= $2
"""


async def count_between(write: Connection, after: UUID, through: UUID) -> int:
    """Return how many batches there are after one and up to another."""
    return int(await write.fetchval(_COUNT_BETWEEN, after, through))


_SELECT_LAST_ID = """
select id
  from write.event_batches
 where id <= $1
 order by id desc
 limit 1
"""


async def find_last_id(write: Connection, through: UUID) -> UUID | None:
    """Return the id of the last batch up to an id."""
    found: UUID | None = await write.fetchval(_SELECT_LAST_ID, through)
    return found


_SELECT_FIRST_TIME = """
select created_at
  from write.event_batches
 where id > $1
   and id <= $2
 order by id
 limit 1
"""


async def find_first_time(write: Connection, after: UUID, through: UUID) -> datetime | None:
    """Return when the first batch after one and up to another was created."""
    found: datetime | None = await write.fetchval(_SELECT_FIRST_TIME, after, through)
    return found
