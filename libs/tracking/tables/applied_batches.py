"""`read.applied_batches`, the inbox: one row for each consumer and batch that it has applied.

A consumer inserts its rows in the transaction that applies the batches, and so does a rebuild, for all consumers. The
relay looks for what is missing.
"""

from collections.abc import Sequence
from uuid import UUID

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
    """Insert the batches for each of the consumers; return (batch, consumer) of the rows that were not there."""
    rows = await read.fetch(_INSERT_BATCHES_OF_CONSUMERS, batch_ids, consumers)
    return [(row["batch_id"], row["consumer"]) for row in rows]


_SELECT_BETWEEN = """
select batch_id
  from read.applied_batches
 where batch_id > $1
   and batch_id <= $2
   and consumer = $3
"""


async def list_between(read: Pool | Connection, consumer: str, after: UUID, through: UUID) -> set[UUID]:
    """Return the batches after one and up to another that the consumer has applied."""
    return {row["batch_id"] for row in await read.fetch(_SELECT_BETWEEN, after, through, consumer)}


_SELECT_AMONG = """
select batch_id
  from read.applied_batches
 where batch_id = any($1::uuid[])
   and consumer = $2
"""


async def list_among(read: Pool | Connection, consumer: str, batch_ids: Sequence[UUID]) -> set[UUID]:
    """Return those of the batches that the consumer has applied."""
    return {row["batch_id"] for row in await read.fetch(_SELECT_AMONG, batch_ids, consumer)}


_SELECT_PARTIALLY_APPLIED = """
select batch_id, min(consumer) as consumer
  from read.applied_batches
 where consumer = any($1::text[])
 group by batch_id
having count(*) = 1
"""


async def list_partially_applied(read: Connection, consumers: Sequence[str]) -> dict[UUID, str]:
    """Return `{batch: consumer}` of batches applied by only one of the consumers. Reads the whole table."""
    return {row["batch_id"]: row["consumer"] for row in await read.fetch(_SELECT_PARTIALLY_APPLIED, consumers)}
