"""`read.applied_batches`, the inbox: one row for each consumer and batch that it has applied.

A consumer inserts its rows in the transaction that applies the batches, and so does a rebuild, for all consumers. The
relay looks for what is missing. A batch that arrives in parts has a row from its first part on: `applied_positions`
says which of its events were applied, and is null when all were.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from asyncpg import Range

from tracking.infra.postgres import Connection, Pool

_INSERT_BATCHES = """
insert into read.applied_batches (consumer, batch_id)
select $1, batch_id
  from unnest($2::uuid[]) as given (batch_id)
    on conflict do nothing
returning batch_id
"""


async def insert_batches(read: Connection, consumer: str, batch_ids: Sequence[UUID]) -> list[UUID]:
    """Insert the batches of one consumer. Return those that were not there, in the given order."""
    return [row["batch_id"] for row in await read.fetch(_INSERT_BATCHES, consumer, batch_ids)]


_SELECT_APPLIED_POSITIONS = """
select batch_id, applied_positions
  from read.applied_batches
 where consumer = $1
   and batch_id = any($2::uuid[])
   and applied_positions is not null
 order by batch_id
   for update
"""


async def lock_partial(read: Connection, consumer: str, batch_ids: Sequence[UUID]) -> dict[UUID, list[range]]:
    """Lock those of the batches of which only parts were applied, and return the positions of their applied events."""
    rows = await read.fetch(_SELECT_APPLIED_POSITIONS, consumer, batch_ids)
    return {row["batch_id"]: _to_ranges(row["applied_positions"]) for row in rows}


# The row is locked in any case; the update of a row that is there changes nothing.
_INSERT_PARTIAL = """
insert into read.applied_batches as known (consumer, batch_id, applied_positions)
values ($1, $2, '{}')
    on conflict (batch_id, consumer) do update set applied_positions = known.applied_positions
returning applied_positions
"""


async def lock_or_insert_partial(read: Connection, consumer: str, batch_id: UUID) -> list[range] | None:
    """Lock the row of a batch and return the positions of its applied events; None if all of them were applied."""
    found = await read.fetchval(_INSERT_PARTIAL, consumer, batch_id)
    return None if found is None else _to_ranges(found)


_UPDATE_POSITIONS = """
update read.applied_batches
   set applied_positions = nullif(
           applied_positions + int4multirange(int4range($3, $4)), int4multirange(int4range(0, $5))
       )
 where consumer = $1
   and batch_id = $2
"""


async def add_positions(read: Connection, consumer: str, batch_id: UUID, first: int, past: int, of: int) -> None:
    """Record that the events from `first` to before `past` were applied; the batch has `of` events."""
    await read.execute(_UPDATE_POSITIONS, consumer, batch_id, first, past, of)


def _to_ranges(positions: Sequence[Range[int]]) -> list[range]:
    return [range(found.lower or 0, found.upper or 0) for found in positions]


_UPDATE_COMPLETE = """
update read.applied_batches
   set applied_positions = null
 where batch_id = any($1::uuid[])
   and consumer = any($2::text[])
   and applied_positions is not null
"""
_INSERT_BATCHES_OF_CONSUMERS = """
insert into read.applied_batches (batch_id, consumer)
select batch_id, consumer
  from unnest($1::uuid[]) as given (batch_id)
 cross join unnest($2::text[]) as named (consumer)
 order by batch_id, consumer
    on conflict do nothing
returning batch_id, consumer
"""


async def insert_batches_of_consumers(
    read: Connection, consumers: Sequence[str], batch_ids: Sequence[UUID]
) -> list[tuple[UUID, str]]:
    """Insert the batches for each of the consumers; return (batch, consumer) of the rows that were not there.

    A batch of which only parts were applied counts as applied from now on. The caller makes its effect whole.
    """
    await read.execute(_UPDATE_COMPLETE, batch_ids, consumers)
    rows = await read.fetch(_INSERT_BATCHES_OF_CONSUMERS, batch_ids, consumers)
    return [(row["batch_id"], row["consumer"]) for row in rows]


_SELECT_BETWEEN = """
select batch_id
  from read.applied_batches
 where batch_id > $1
   and batch_id <= $2
   and consumer = $3
   and applied_positions is null
"""


async def list_between(read: Pool | Connection, consumer: str, after: UUID, through: UUID) -> set[UUID]:
    """Return the batches after one and up to another that the consumer has applied."""
    return {row["batch_id"] for row in await read.fetch(_SELECT_BETWEEN, after, through, consumer)}


_SELECT_AMONG = """
select batch_id
  from read.applied_batches
 where batch_id = any($1::uuid[])
   and consumer = $2
   and applied_positions is null
"""


async def list_among(read: Pool | Connection, consumer: str, batch_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the batches that the consumer has applied."""
    return {row["batch_id"] for row in await read.fetch(_SELECT_AMONG, batch_ids, consumer)}


class AppliedPart(NamedTuple):
    """The part of a batch that a consumer has applied; `positions` is None if that is the whole batch."""

    batch_id: UUID
    consumer: str
    positions: tuple[Range[int], ...] | None


_SELECT_PARTIALLY_APPLIED = """
with partially_applied as (
    select batch_id
      from read.applied_batches
     where consumer = any($1::text[])
     group by batch_id
    having count(*) = 1
        or bool_or(applied_positions is not null)
)
select batch_id, consumer, applied_positions
  from read.applied_batches
  join partially_applied using (batch_id)
 where consumer = any($1::text[])
"""


async def list_partially_applied(read: Connection, consumers: Sequence[str]) -> list[AppliedPart]:
    """Return the parts that two consumers have applied of those batches that not both have applied as a whole.

    Reads the whole table.
    """
    rows = await read.fetch(_SELECT_PARTIALLY_APPLIED, consumers)
    return [AppliedPart(batch, name, None if found is None else tuple(found)) for batch, name, found in rows]
