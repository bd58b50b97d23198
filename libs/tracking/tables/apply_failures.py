"""`read.apply_failures`: why a consumer could not apply a batch, for the person who decides about its dead letter.

A worker writes the row with each failed delivery. The relay reads it when it collects the dead letter, and deletes rows
after a day.
"""

from typing import NamedTuple
from uuid import UUID

from tracking.infra.postgres import Pool


class ApplyFailure(NamedTuple):
    """The last failure; `deliveries` is how often the message had been delivered by then."""

    error: str
    deliveries: int


_UPSERT_FAILURE = """
insert into read.apply_failures (consumer, batch_id, error, deliveries, failed_at)
values ($1, $2, $3, $4, now())
    on conflict (consumer, batch_id)
    do update set error = excluded.error, deliveries = excluded.deliveries, failed_at = excluded.failed_at
"""


async def save_failure(read: Pool, consumer: str, batch_id: UUID, failure: ApplyFailure) -> None:
    """Save the last failure of a batch, in place of an earlier one. Raises postgres.POSTGRES_ERRORS."""
    await read.execute(_UPSERT_FAILURE, consumer, batch_id, *failure)


_SELECT_FAILURE = """
select error, deliveries
  from read.apply_failures
 where consumer = $1
   and batch_id = $2
"""


async def find_failure(read: Pool, consumer: str, batch_id: UUID | None) -> ApplyFailure | None:
    """Return the last failure of a batch. A message without a batch has none."""
    row = await read.fetchrow(_SELECT_FAILURE, consumer, batch_id)
    return None if row is None else ApplyFailure(*row)


_DELETE_OLD_FAILURES = """
delete from read.apply_failures
 where consumer = $1
   and failed_at < now() - interval '1 day'
"""


async def delete_old_failures(read: Pool, consumer: str) -> None:
    """Delete failures of the consumer that are older than a day."""
    await read.execute(_DELETE_OLD_FAILURES, consumer)
