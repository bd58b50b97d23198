"""How far each consumer is: `write.consumer_positions` for the relay itself, `read.consumer_progress` for others.

The relay moves the position over batches that are proven to be applied, and writes the progress once a tick. Query
reads the watermark there, a worker its number of open dead letters, and a rebuild sets positions back.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from tracking.domain.ids import get_previous_id
from tracking.infra.postgres import Connection, Pool

_SELECT_POSITION = """
select applied_through
  from write.consumer_positions
 where consumer = $1
"""


async def read_position(write: Pool, consumer: str) -> UUID:
    """Return the batch up to which every one is proven to be in the inbox or a dead letter; all zeros for none."""
    return await write.fetchval(_SELECT_POSITION, consumer) or UUID(int=0)


_UPSERT_POSITION = """
insert into write.consumer_positions (consumer, applied_through, updated_at)
values ($1, $2, now())
    on conflict (consumer)
    do update set applied_through = excluded.applied_through, updated_at = excluded.updated_at
"""


async def save_position(write: Pool, consumer: str, applied_through: UUID) -> None:
    """Move the position of a consumer."""
    await write.execute(_UPSERT_POSITION, consumer, applied_through)


_UPDATE_POSITION = """
update write.consumer_positions
   set applied_through = $2, updated_at = now()
 where consumer = $1
   and applied_through > $2
"""


async def rewind_positions(write: Connection, first_missing: Mapping[str, UUID]) -> None:
    """Move positions back to before `{consumer: first batch that is missing from its inbox}`.

    Such a position was proven for another read database, lost since. Until it is moved back, query claims to be up to
    date.
    """
    for consumer, batch_id in first_missing.items():
        await write.execute(_UPDATE_POSITION, consumer, get_previous_id(batch_id))


_UPSERT_PROGRESS = """
insert into read.consumer_progress (consumer, applied_through, pending_batches, open_dead_letters, observed_at)
values ($1, $2, $3, $4, now())
    on conflict (consumer)
    do update set applied_through = excluded.applied_through,
                  pending_batches = excluded.pending_batches,
                  open_dead_letters = excluded.open_dead_letters,
                  observed_at = excluded.observed_at
"""


async def save_progress(
    read: Pool, consumer: str, *, applied_through: datetime, pending_batches: int, open_dead_letters: int
) -> None:
    """Write a consumer's progress to the read database: everything before `applied_through` is applied."""
    await read.execute(_UPSERT_PROGRESS, consumer, applied_through, pending_batches, open_dead_letters)


_SELECT_OPEN_DEAD_LETTERS = """
select open_dead_letters
  from read.consumer_progress
 where consumer = $1
"""


async def read_open_dead_letters(read: Pool, consumer: str) -> int:
    """Return how many dead letters of the consumer were open when the relay last counted them."""
    return int(await read.fetchval(_SELECT_OPEN_DEAD_LETTERS, consumer) or 0)


_SELECT_WATERMARK = """
select case when count(*) = cardinality($1::text[]) then min(applied_through) end
  from read.consumer_progress
 where consumer = any($1::text[])
"""


async def read_watermark(connection: Pool | Connection, consumers: Sequence[str]) -> datetime | None:
    """Return the time before which every commit is applied by all `consumers`; None if it is not known yet.

    Raises the errors of asyncpg.
    """
    watermark: datetime | None = await connection.fetchval(_SELECT_WATERMARK, consumers)
    return watermark
