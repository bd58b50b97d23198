"""Counts by event name for any range: whole days and hours from the rollups, the edge hours from the rows."""

from datetime import datetime
from uuid import UUID

from services.query.database import translate_errors
from services.query.events import CountsByName
from services.query.freshness import read_range_version
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection, Pool

# Whole days [$5, $6) and hours [$4, $5) and [$6, $7) from the rollups, the ragged ends [$3, $4) and [$7, $8) from the
# events, in one snapshot.
_SELECT_COUNTS = """
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


def split_range(within: TimeRange) -> tuple[datetime, ...]:
    """$3 to $8 of _COUNTS, ascending: where the parts by events, hours, days, hours and events begin, and the end."""
    first_hour, last_hour = within.get_whole_hours()
    if first_hour >= last_hour:
        return (within.start, *[within.exclusive_end] * 5)
    first_day, last_day = within.get_whole_days()
    if first_day >= last_day:
        first_day = last_day = last_hour
    return within.start, first_hour, first_day, last_day, last_hour, within.exclusive_end


async def count_by_name(
    connection: Pool | Connection, system_id: UUID, within: TimeRange, event_name: str | None
) -> CountsByName:
    """`{event name: (valid, invalid, valid of bots, invalid of bots)}`, most frequent first; of one name if given."""
    with translate_errors():
        rows = await connection.fetch(_SELECT_COUNTS, system_id, event_name, *split_range(within))
    return {name: (valid, invalid, *bots) for name, valid, invalid, *bots in rows}


async def count_by_name_with_version(pool: Pool, system_id: UUID, within: TimeRange) -> tuple[CountsByName, int]:
    """Both as they were at one moment."""
    with translate_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            known = await read_range_version(connection, system_id, within)
            return await count_by_name(connection, system_id, within, None), known
