"""The read model as questions: a page of events, one event, counts, and how far behind all of it is.

Statements are planned anew with their parameters, which takes half a millisecond, so a filter that was not asked for is
no condition, the index is chosen by what is known of the values, and partitions outside the range are not opened.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from datetime import datetime
from typing import Any
from uuid import UUID

from services.query.parameters import Filters, Position, Range
from tracking.domain.errors import Unavailable
from tracking.infra import postgres
from tracking.infra.postgres import Connection, Pool

# Of every session. Without sorting, a page is read in the order of an index and ends with its last row, even where the
# planner believes that few rows match; what must be sorted is, at a price that would switch compiling on. To start
# processes that work side by side takes ten times as long as to count a day; for a year it pays.
SETTINGS = {
    "plan_cache_mode": "force_custom_plan",
    "enable_sort": "off",
    "jit": "off",
    "parallel_setup_cost": "5000",
}
# Whose progress an answer depends on.
EVENTS = ("projector",)
EVENTS_AND_COUNTS = ("projector", "statistics")
Row = Any
# (valid, invalid, valid of bots, invalid of bots)
Counts = dict[str, tuple[int, int, int, int]]


@contextmanager
def answering() -> Iterator[None]:
    """Around each statement: Unavailable is what callers hear of a database that is away."""
    try:
        yield
    except postgres.TRANSIENT as error:
        message = f"The read database does not answer: {postgres.describe(error)}"
        raise Unavailable("database_unavailable", message, 2) from error


# A text is found by its key, which stands for its system too, and compared as well, since others may have that key.
# Then the system must not be found by the primary key: without statistics (a new month) the planner takes a system to
# be as rare as a text, and might read all of it. So it is compared as text, which no index answers. Beside a name, the
# index of invalid events, which are few, stays a choice.
# (event_timestamp, id) < ($3, $4) is the cursor; event_timestamp <= $3 says the same to the planner of partitions
_PAGE = """
select *
  from read.tracking_events_read_model
 where case when coalesce($7::text, $8::text) is null and ($5::text is null or not $6::boolean)
            then partner_system_id = $1
            else partner_system_id::text = $1::text
       end
   and event_timestamp >= $2
   and event_timestamp <= $3
   and (event_timestamp, id) < ($3, $4)
   and ($5::text is null
        or read.text_key(partner_system_id, event_name) = read.text_key($1, $5)
           and event_name = $5)
   and ($6::boolean is null or is_valid = $6)
   and ($7::text is null
        or read.text_key(partner_system_id, user_id) = read.text_key($1, $7)
           and user_id = $7)
   and ($8::text is null
        or read.text_key(partner_system_id, anonymous_id) = read.text_key($1, $8)
           and anonymous_id = $8)
   and $9::text is null
   and ($10::text is null or coalesce(event_type, 'track') = $10)
   and ($11::boolean is null or is_bot = $11)
 order by event_timestamp desc, id desc
 limit $12 offset $13
"""

# first all events of the request: a planner without statistics (a new month) would rather read the whole
# range in order than believe in an index that is not in the page's order
_PAGE_OF_REQUEST = """
with request as materialized (
    select *
      from read.tracking_events_read_model
     where partner_system_id::text = $1::uuid::text
       and read.text_key(partner_system_id, correlation_id) = read.text_key($1, $9)
       and correlation_id = $9
       and event_timestamp >= $2
       and event_timestamp <= $3
)
select *
  from request
 where (event_timestamp, id) < ($3, $4)
   and ($5::text is null or event_name = $5)
   and ($6::boolean is null or is_valid = $6)
   and ($7::text is null or user_id = $7)
   and ($8::text is null or anonymous_id = $8)
   and ($10::text is null or coalesce(event_type, 'track') = $10)
   and ($11::boolean is null or is_bot = $11)
 order by event_timestamp desc, id desc
 limit $12 offset $13
"""


async def page(
    pool: Pool, system_id: UUID, position: Position, filters: Filters, *, limit: int, offset: int
) -> Sequence[Row]:
    """Events of a system, newest first, `offset` after the position. Raises Unavailable, as every function here."""
    statement = _PAGE if filters.correlation_id is None else _PAGE_OF_REQUEST
    with answering():
        return await pool.fetch(
            statement,
            system_id,
            position.within.start,
            position.before,
            position.before_id,
            *astuple(filters),
            limit,
            offset,
        )


_COUNT = """
select count(*)
  from read.tracking_events_read_model
 where case when coalesce($6::text, $7::text) is null and ($4::text is null or not $5::boolean)
            then partner_system_id = $1
            else partner_system_id::text = $1::text
       end
   and event_timestamp >= $2
   and event_timestamp <= $3
   and ($4::text is null
        or read.text_key(partner_system_id, event_name) = read.text_key($1, $4)
           and event_name = $4)
   and ($5::boolean is null or is_valid = $5)
   and ($6::text is null
        or read.text_key(partner_system_id, user_id) = read.text_key($1, $6)
           and user_id = $6)
   and ($7::text is null
        or read.text_key(partner_system_id, anonymous_id) = read.text_key($1, $7)
           and anonymous_id = $7)
   and $8::text is null
   and ($9::text is null or coalesce(event_type, 'track') = $9)
   and ($10::boolean is null or is_bot = $10)
"""

_COUNT_OF_REQUEST = """
with request as materialized (
    select *
      from read.tracking_events_read_model
     where partner_system_id::text = $1::uuid::text
       and read.text_key(partner_system_id, correlation_id) = read.text_key($1, $8)
       and correlation_id = $8
       and event_timestamp >= $2
       and event_timestamp <= $3
)
select count(*)
  from request
 where ($4::text is null or event_name = $4)
   and ($5::boolean is null or is_valid = $5)
   and ($6::text is null or user_id = $6)
   and ($7::text is null or anonymous_id = $7)
   and ($9::text is null or coalesce(event_type, 'track') = $9)
   and ($10::boolean is null or is_bot = $10)
"""


async def count(pool: Pool, system_id: UUID, within: Range, filters: Filters) -> int:
    """How many events have what the filters ask for, by the events themselves."""
    statement = _COUNT if filters.correlation_id is None else _COUNT_OF_REQUEST
    with answering():
        found: int = await pool.fetchval(statement, system_id, within.start, within.end, *astuple(filters))
    return found


# Whole days [$5, $6) and hours [$4, $5) and [$6, $7) from the rollups, the ragged ends [$3, $4) and [$7, $8) from the
# events, in one snapshot.
_COUNTS = """
select event_name,
       sum(valid)::bigint as valid,
       sum(invalid)::bigint as invalid,
       sum(bots_valid)::bigint as bots_valid,
       sum(bots_invalid)::bigint as bots_invalid
  from (
        select event_name, valid, invalid, bots_valid, bots_invalid
          from read.event_counts_daily
         where partner_system_id = $1
           and day >= ($5::timestamptz at time zone 'UTC')::date
           and day < ($6::timestamptz at time zone 'UTC')::date
           and ($2::text is null or event_name = $2)
        union all
        select event_name, valid, invalid, bots_valid, bots_invalid
          from read.event_counts_hourly
         where partner_system_id = $1
           and bucket >= $4
           and bucket < $5
           and ($2::text is null or event_name = $2)
        union all
        select event_name, valid, invalid, bots_valid, bots_invalid
          from read.event_counts_hourly
         where partner_system_id = $1
           and bucket >= $6
           and bucket < $7
           and ($2::text is null or event_name = $2)
        union all
        select event_name,
               count(*) filter (where is_valid and not is_bot),
               count(*) filter (where not is_valid and not is_bot),
               count(*) filter (where is_valid and is_bot),
               count(*) filter (where not is_valid and is_bot)
          from read.tracking_events_read_model
         where case when $2::text is null
                    then partner_system_id = $1
                    else partner_system_id::text = $1::text
               end
           and event_timestamp >= $3
           and event_timestamp < $4
           and ($2::text is null
                or read.text_key(partner_system_id, event_name) = read.text_key($1, $2)
                   and event_name = $2)
         group by event_name
        union all
        select event_name,
               count(*) filter (where is_valid and not is_bot),
               count(*) filter (where not is_valid and not is_bot),
               count(*) filter (where is_valid and is_bot),
               count(*) filter (where not is_valid and is_bot)
          from read.tracking_events_read_model
         where case when $2::text is null
                    then partner_system_id = $1
                    else partner_system_id::text = $1::text
               end
           and event_timestamp >= $7
           and event_timestamp < $8
           and ($2::text is null
                or read.text_key(partner_system_id, event_name) = read.text_key($1, $2)
                   and event_name = $2)
         group by event_name
       ) as part
 group by event_name
 order by sum(valid) + sum(invalid) desc, event_name
"""


def borders(within: Range) -> tuple[datetime, ...]:
    """$3 to $8 of _COUNTS, ascending: where the parts by events, hours, days, hours and events begin, and the end."""
    first_hour, last_hour = within.whole_hours()
    if first_hour >= last_hour:
        return (within.start, *[within.stop] * 5)
    first_day, last_day = within.whole_days()
    if first_day >= last_day:
        first_day = last_day = last_hour
    return within.start, first_hour, first_day, last_day, last_hour, within.stop


async def counts(connection: Pool | Connection, system_id: UUID, within: Range, event_name: str | None) -> Counts:
    """`{event name: (valid, invalid, valid of bots, invalid of bots)}`, most frequent first; of one name if given."""
    with answering():
        rows = await connection.fetch(_COUNTS, system_id, event_name, *borders(within))
    return {name: (valid, invalid, *bots) for name, valid, invalid, *bots in rows}


_EVENT = """
select *
  from read.tracking_events_read_model
 where id = $1
   and ($2::uuid is null or partner_id = $2)
 order by event_timestamp
 limit 1
"""


async def event(pool: Pool, event_id: UUID, partner_id: UUID | None) -> Row | None:
    """One event, if it is of that partner or all partners may be seen."""
    with answering():
        return await pool.fetchrow(_EVENT, event_id, partner_id)


_OWNER = """
select partner_id
  from read.partner_systems
 where id = $1
"""


async def owner(pool: Pool, system_id: UUID) -> UUID | None:
    """The partner of a system, None if it is not known (yet: the relay copies systems within about a second)."""
    with answering():
        found: UUID | None = await pool.fetchval(_OWNER, system_id)
    return found


# each change to a day raises its versions, so the same sum means that nothing changed
_VERSION = """
select coalesce(sum(version), 0)::bigint
  from read.range_versions
 where partner_system_id = $1
   and day >= $2
   and day <= $3
"""


async def version(connection: Pool | Connection, system_id: UUID, within: Range) -> int:
    """A number that grows with each change to the range's days."""
    with answering():
        found: int = await connection.fetchval(_VERSION, system_id, within.start.date(), within.end.date())
    return found


async def counts_with_version(pool: Pool, system_id: UUID, within: Range) -> tuple[Counts, int]:
    """Both as they were at one moment."""
    with answering():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            known = await version(connection, system_id, within)
            return await counts(connection, system_id, within, None), known


_AS_OF = """
select case when count(*) = cardinality($1::text[]) then min(applied_through) end
  from read.consumer_progress
 where consumer = any($1::text[])
"""


async def as_of(pool: Pool, consumers: Sequence[str]) -> datetime | None:
    """Everything committed before it has been applied by all of `consumers`; None when that is not known yet."""
    with answering():
        found: datetime | None = await pool.fetchval(_AS_OF, consumers)
    return found
