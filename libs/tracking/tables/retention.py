"""`write.retention` and `read.retention`: from when on raw events, and counts, are complete.

The relay announces the times before it drops anything. The gateway rejects older events, query shows none, and a
rebuild leaves alone what they have left behind.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from tracking.infra.postgres import Connection, Pool


class Announcement(NamedTuple):
    """A row of `write.retention`; rows outside the months are expired up to `expired_through`."""

    raw_since: datetime
    at: datetime
    expired_through: datetime | None


_SELECT_ANNOUNCEMENT = """
select raw_since, announced_at, expired_through
  from write.retention
"""


async def find_announcement(write: Pool | Connection) -> Announcement | None:
    """Return what was announced; None if nothing was ever dropped. Raises the errors of asyncpg, as all functions."""
    row = await write.fetchrow(_SELECT_ANNOUNCEMENT)
    return None if row is None else Announcement(*row)


async def find_raw_since(write: Pool | Connection) -> datetime | None:
    """Return the time before which the write database has no events, and takes none; None if there is none."""
    announced = await find_announcement(write)
    return None if announced is None else announced.raw_since


_UPDATE_EXPIRED = """
update write.retention
   set expired_through = $1
 where raw_since = $1
"""


async def save_expired_through(write: Pool, raw_since: datetime) -> None:
    """Record that no row outside the months is older, unless a later time was announced meanwhile."""
    await write.execute(_UPDATE_EXPIRED, raw_since)


class Limits(NamedTuple):
    """Limits of an answer: a watermark, and from when on there are events and counts; None = from the first."""

    as_of: datetime | None
    raw_since: datetime | None
    counts_since: datetime | None


# Everything committed before the watermark is applied by all of the consumers; it is null if that is not known yet.
_SELECT_LIMITS = """
select (
           select case when count(*) = cardinality($1::text[]) then min(applied_through) end
             from read.consumer_progress
            where consumer = any($1::text[])
       ) as as_of,
       (select raw_since from read.retention) as raw_since,
       (select counts_since from read.retention) as counts_since
"""


async def read_limits(read: Pool | Connection, consumers: Sequence[str] = ()) -> Limits:
    """Return the limits of an answer that depends on these consumers."""
    row = await read.fetchrow(_SELECT_LIMITS, consumers)
    return Limits(*row) if row is not None else Limits(None, None, None)


_SELECT_READ_RAW_SINCE = "select raw_since from read.retention"


async def read_kept_since(write: Connection, read: Connection) -> datetime | None:
    """Return the time before which one of the databases has no events any more; None if there is none."""
    known = (await find_raw_since(write), await read.fetchval(_SELECT_READ_RAW_SINCE))
    return max((at for at in known if at is not None), default=None)
