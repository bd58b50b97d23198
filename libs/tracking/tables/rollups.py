"""`read.event_counts_hourly` and `read.event_counts_daily`, the counts of events: by hour and by day (UTC).

Statistics adds to them, a rebuild corrects them, and query reads them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from tracking.infra.postgres import Connection

# (system, the beginning of an hour in UTC)
HourKey = tuple[UUID, datetime]
# system, hour, event name
HourlyCountKey = tuple[UUID, datetime, str]
# each as many as COUNT_KINDS, in their order; of a difference some may be negative
HourlyCounts = Mapping[HourlyCountKey, Sequence[int]]
# counted apart, as columns of both tables
COUNT_KINDS = ("valid", "invalid", "bots_valid", "bots_invalid")
# [is_bot][is_valid] is the position of an event in COUNT_KINDS; without a call, for loops over many events
COUNT_KIND_INDEXES = ((1, 0), (3, 2))
# COUNT_KINDS of the rows of a group, by the columns of events
COUNT_BY_KIND = """
       count(*) filter (where is_valid and not is_bot) as valid,
       count(*) filter (where not is_valid and not is_bot) as invalid,
       count(*) filter (where is_valid and is_bot) as bots_valid,
       count(*) filter (where not is_valid and is_bot) as bots_invalid
"""


# In key order, and hours before days, so that workers side by side lock rows in the same order and never each other.
_UPSERT_HOURLY_COUNTS = """
insert into read.event_counts_hourly as known
       (partner_system_id, bucket, event_name, total, valid, invalid, bots_valid, bots_invalid)
select partner_system_id, bucket, event_name, valid + invalid, valid, invalid, bots_valid, bots_invalid
  from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
       as given (partner_system_id, bucket, event_name, valid, invalid, bots_valid, bots_invalid)
 order by partner_system_id, bucket, event_name
    on conflict (partner_system_id, bucket, event_name)
    do update set total = known.total + excluded.total,
                  valid = known.valid + excluded.valid,
                  invalid = known.invalid + excluded.invalid,
                  bots_valid = known.bots_valid + excluded.bots_valid,
                  bots_invalid = known.bots_invalid + excluded.bots_invalid
"""

_UPSERT_DAILY_COUNTS = """
insert into read.event_counts_daily as known
       (partner_system_id, day, event_name, valid, invalid, bots_valid, bots_invalid)
select partner_system_id, (bucket at time zone 'UTC')::date, event_name,
       sum(valid), sum(invalid), sum(bots_valid), sum(bots_invalid)
  from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
       as given (partner_system_id, bucket, event_name, valid, invalid, bots_valid, bots_invalid)
 group by 1, 2, 3
 order by 1, 2, 3
    on conflict (partner_system_id, day, event_name)
    do update set valid = known.valid + excluded.valid,
                  invalid = known.invalid + excluded.invalid,
                  bots_valid = known.bots_valid + excluded.bots_valid,
                  bots_invalid = known.bots_invalid + excluded.bots_invalid
"""


async def add_counts(connection: Connection, counts: HourlyCounts) -> None:
    """Add to the counts of hours and of their days, inside a transaction."""
    await add_hourly_counts(connection, counts)
    await connection.execute(_UPSERT_DAILY_COUNTS, *_keys(counts), *_numbers(counts))


async def add_hourly_counts(connection: Connection, counts: HourlyCounts) -> None:
    """Add to the counts of hours alone."""
    await connection.execute(_UPSERT_HOURLY_COUNTS, *_keys(counts), *_numbers(counts))


def _keys(keys: Collection[HourlyCountKey]) -> tuple[list[UUID], list[datetime], list[str]]:
    return [system for system, _, _ in keys], [hour for _, hour, _ in keys], [name for _, _, name in keys]


def _numbers(counts: HourlyCounts) -> Iterator[list[int]]:
    return ([numbers[kind] for numbers in counts.values()] for kind in range(len(COUNT_KINDS)))


_DELETE_EMPTY_HOURS = """
delete from read.event_counts_hourly as known
 using unnest($1::uuid[], $2::timestamptz[], $3::text[]) as given (partner_system_id, bucket, event_name)
 where known.partner_system_id = given.partner_system_id
   and known.bucket = given.bucket
   and known.event_name = given.event_name
   and known.valid = 0
   and known.invalid = 0
   and known.bots_valid = 0
   and known.bots_invalid = 0
"""


async def delete_empty_hourly_counts(connection: Connection, keys: Collection[HourlyCountKey]) -> None:
    """Delete those of these hourly counts that are zero in every column."""
    await connection.execute(_DELETE_EMPTY_HOURS, *_keys(keys))


# Statistics adds to hourly and daily counts in one transaction. A difference computed from one snapshot therefore stays
# correct when counts are added at the same time.
_UPSERT_DAYS_FROM_HOURS = """
with wanted as (
    select distinct partner_system_id, (bucket at time zone 'UTC')::date as day
      from unnest($1::uuid[], $2::timestamptz[]) as given (partner_system_id, bucket)
), difference as (
    select wanted.partner_system_id, wanted.day, counted.event_name,
           sum(valid) as valid, sum(invalid) as invalid,
           sum(bots_valid) as bots_valid, sum(bots_invalid) as bots_invalid
      from wanted
     cross join lateral (
            select event_name, valid, invalid, bots_valid, bots_invalid
              from read.event_counts_hourly
             where partner_system_id = wanted.partner_system_id
               and bucket >= wanted.day::timestamp at time zone 'UTC'
               and bucket < (wanted.day + 1)::timestamp at time zone 'UTC'
            union all
            select event_name, -valid, -invalid, -bots_valid, -bots_invalid
              from read.event_counts_daily
             where partner_system_id = wanted.partner_system_id
               and day = wanted.day
           ) as counted
     group by 1, 2, 3
)
insert into read.event_counts_daily as known
       (partner_system_id, day, event_name, valid, invalid, bots_valid, bots_invalid)
select *
  from difference
 where (valid, invalid, bots_valid, bots_invalid) <> (0, 0, 0, 0)
 order by 1, 2, 3
    on conflict (partner_system_id, day, event_name)
    do update set valid = known.valid + excluded.valid,
                  invalid = known.invalid + excluded.invalid,
                  bots_valid = known.bots_valid + excluded.bots_valid,
                  bots_invalid = known.bots_invalid + excluded.bots_invalid
returning partner_system_id, (day::timestamp at time zone 'UTC') as bucket
"""

_DELETE_EMPTY_DAYS = """
delete from read.event_counts_daily as known
 using unnest($1::uuid[], $2::timestamptz[]) as given (partner_system_id, bucket)
 where known.partner_system_id = given.partner_system_id
   and known.day = (given.bucket at time zone 'UTC')::date
   and known.valid = 0
   and known.invalid = 0
   and known.bots_valid = 0
   and known.bots_invalid = 0
"""


async def rebuild_daily_counts(connection: Connection, hours: Collection[HourKey]) -> list[HourKey]:
    """Make the counts of these hours' days the sums of their hours. Return the day of each corrected count."""
    keys = [system for system, _ in hours], [hour for _, hour in hours]
    wrong = await connection.fetch(_UPSERT_DAYS_FROM_HOURS, *keys)
    await connection.execute(_DELETE_EMPTY_DAYS, *keys)
    return [(row["partner_system_id"], row["bucket"]) for row in wrong]
