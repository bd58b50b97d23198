"""`read.apply_failures`: how often a consumer tried to apply a batch alone, and why it could not.

A worker counts an attempt before it begins, because the batch may end the process. This count alone decides when a
batch is given up. The relay reads the row when it collects the dead letter, deletes it when the dead letter is retried,
and deletes rows a day after the last attempt.

`batch_id` is the id of the attempts: that of the batch, or one made of it for a part that does not begin the batch.
"""

from typing import NamedTuple
from uuid import UUID

from tracking.infra.postgres import Pool

# A batch is given up after this many attempts that failed.
MAX_ATTEMPTS = 10


# the lowest bits of a batch id, which are random; no batch has more events
_POSITION_BITS = 0xFFFF


def make_attempt_id(batch_id: UUID, first: int) -> UUID:
    """Return the id of the attempts at a message that begins with the event at this position of the batch."""
    return UUID(int=batch_id.int ^ (first & _POSITION_BITS))


class ApplyFailure(NamedTuple):
    """The last failure, and the number of attempts by then."""

    error: str
    attempts: int

    @property
    def is_final(self) -> bool:
        """Whether the consumer has given the batch up."""
        return self.attempts >= MAX_ATTEMPTS


_UPSERT_ATTEMPT = """
insert into read.apply_failures as known (consumer, batch_id, error, deliveries, failed_at)
values ($1, $2, 'the process ended while it applied the batch', 1, now())
    on conflict (consumer, batch_id)
    do update set deliveries = known.deliveries + 1, failed_at = excluded.failed_at
returning deliveries
"""


async def begin_attempt(read: Pool, consumer: str, attempt_id: UUID) -> int:
    """Count an attempt, and return its number. Raises postgres.POSTGRES_ERRORS, as every function here."""
    attempts: int = await read.fetchval(_UPSERT_ATTEMPT, consumer, attempt_id)
    return attempts


_UPDATE_ERROR = """
update read.apply_failures
   set error = $3, deliveries = deliveries - $4, failed_at = now()
 where consumer = $1
   and batch_id = $2
"""


async def save_error(read: Pool, consumer: str, attempt_id: UUID, error: str) -> None:
    """Save why the attempt failed that was counted last."""
    await read.execute(_UPDATE_ERROR, consumer, attempt_id, error, 0)


async def withdraw_attempt(read: Pool, consumer: str, attempt_id: UUID, error: str) -> None:
    """Do not count the last attempt, which failed because of an outage."""
    await read.execute(_UPDATE_ERROR, consumer, attempt_id, error, 1)


_SELECT_FAILURE = """
select error, deliveries
  from read.apply_failures
 where consumer = $1
   and batch_id = $2
"""


async def find_failure(read: Pool, consumer: str, attempt_id: UUID | None) -> ApplyFailure | None:
    """Return the last failure of a batch. A message without a batch has none."""
    row = await read.fetchrow(_SELECT_FAILURE, consumer, attempt_id)
    return None if row is None else ApplyFailure(*row)


_DELETE_FAILURES = """
delete from read.apply_failures
 where consumer = $1
   and batch_id >= $2
   and batch_id <= $3
"""


async def delete_failures(read: Pool, consumer: str, batch_id: UUID | None) -> None:
    """Forget the attempts of a batch, and of its parts, that a person wants tried again."""
    if batch_id is not None:
        first, last = UUID(int=batch_id.int & ~_POSITION_BITS), UUID(int=batch_id.int | _POSITION_BITS)
        await read.execute(_DELETE_FAILURES, consumer, first, last)


_DELETE_OLD_FAILURES = """
delete from read.apply_failures
 where consumer = $1
   and failed_at < now() - interval '1 day'
"""


async def delete_old_failures(read: Pool, consumer: str) -> None:
    """Delete failures of the consumer that are older than a day."""
    await read.execute(_DELETE_OLD_FAILURES, consumer)
