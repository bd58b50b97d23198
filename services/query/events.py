"""The read model as questions: a page of events, one event, counts, and how far behind all of it is.

Statements are planned anew with their parameters, which takes half a millisecond, so a filter that was not asked for is
no condition, the index is chosen by what is known of the values, and partitions outside the range are not opened.
"""

from collections.abc import Sequence
from dataclasses import astuple
from uuid import UUID

from services.query.cursor import PagePosition
from services.query.database import Row, translate_errors
from services.query.parameters import EventFilters
from services.query.time_range import TimeRange
from tracking.infra.postgres import Pool

# (valid, invalid, valid of bots, invalid of bots)
CountsByName = dict[str, tuple[int, int, int, int]]


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


async def list_events(
    pool: Pool, system_id: UUID, position: PagePosition, filters: EventFilters, *, limit: int, offset: int
) -> Sequence[Row]:
    """Events of a system, newest first, `offset` after the position. Raises Unavailable, as every function here."""
    statement = _PAGE if filters.correlation_id is None else _PAGE_OF_REQUEST
    with translate_errors():
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


async def count_events(pool: Pool, system_id: UUID, within: TimeRange, filters: EventFilters) -> int:
    """How many events have what the filters ask for, by the events themselves."""
    statement = _COUNT if filters.correlation_id is None else _COUNT_OF_REQUEST
    with translate_errors():
        found: int = await pool.fetchval(statement, system_id, within.start, within.end, *astuple(filters))
    return found


_SELECT_EVENT = """
select *
  from read.tracking_events_read_model
 where id = $1
   and ($2::uuid is null or partner_id = $2)
 order by event_timestamp
 limit 1
"""


async def find_event(pool: Pool, event_id: UUID, partner_id: UUID | None) -> Row | None:
    """One event, if it is of that partner or all partners may be seen."""
    with translate_errors():
        return await pool.fetchrow(_SELECT_EVENT, event_id, partner_id)
