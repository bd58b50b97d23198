"""Second half of a rebuild: makes hourly counts equal to the events, and daily counts to the sums of their hours.

The workers keep applying batches meanwhile, and the projector and statistics are rarely at the same batch, so a plain
recount would be wrong. One snapshot is therefore read of the events of some hours, their counts, and the batches, or
parts of batches, that are in the inbox of only one consumer. The correct counts are

    the events, less those of batches only the projector has applied, and those of batches only statistics has counted,

and the difference to the present counts is added. Statistics only adds too, so nothing has to be locked: the counts
that it adds between the snapshot and the commit are added to both.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import Range

from services.cli.rebuild.batches import EventKey, RebuildStuck
from tracking.contracts import topology
from tracking.infra.postgres import USE_INDEX_LOOKUPS_CUSTOM_PLANS, Connection, parse_row_count
from tracking.tables import applied_batches, range_versions, rollups
from tracking.tables.applied_batches import AppliedPart
from tracking.tables.rollups import COUNT_BY_KIND, COUNT_KINDS, HourKey, HourlyCountKey, HourlyCounts

_INSERT_HOURS = """
insert into read.rebuild_hours (partner_system_id, bucket)
select partner_system_id, bucket
  from unnest($1::uuid[], $2::timestamptz[]) as given (partner_system_id, bucket)
    on conflict do nothing
"""

GROUP_HOURS = 500
_PAGE_EVENTS = 5_000

_SELECT_WAITING_HOURS = """
select partner_system_id, bucket
  from read.rebuild_hours
 order by partner_system_id, bucket
 limit $1
"""


async def list_waiting_hours(read: Connection) -> list[HourKey]:
    """Return the next hours to compare.

    A day is never divided between two calls, because it is summed up when its hours are right.
    """
    hours = [(row["partner_system_id"], row["bucket"]) for row in await read.fetch(_SELECT_WAITING_HOURS, GROUP_HOURS)]
    if len(hours) < GROUP_HOURS:
        return hours
    last_system, last_hour = hours[-1]
    return [(system, hour) for system, hour in hours if (system, hour.date()) != (last_system, last_hour.date())]


_COUNT_WAITING_HOURS = "select count(*) from read.rebuild_hours"


async def count_waiting_hours(read: Connection) -> int:
    """Return how many hours are still to be compared."""
    return int(await read.fetchval(_COUNT_WAITING_HOURS))


_INSERT_COUNTED_HOURS = """
insert into read.rebuild_hours (partner_system_id, bucket)
select distinct partner_system_id, bucket
  from read.event_counts_hourly
    on conflict do nothing
"""

_INSERT_HOURS_OF_DAYS = """
insert into read.rebuild_hours (partner_system_id, bucket)
select distinct partner_system_id, day::timestamp at time zone 'UTC'
  from read.event_counts_daily
    on conflict do nothing
"""

_INSERT_HOURS_OF_EVENTS = """
insert into read.rebuild_hours (partner_system_id, bucket)
select distinct partner_system_id, date_trunc('hour', event_timestamp)
  from read.tracking_events_read_model
    on conflict do nothing
"""


async def queue_all_hours(read: Connection, *, of_events_too: bool) -> None:
    """Queue every hour that has a count, even if it belongs to no batch.

    With `of_events_too` every hour that has an event is queued as well, for which all events are read.
    """
    await read.execute(_INSERT_COUNTED_HOURS)
    await read.execute(_INSERT_HOURS_OF_DAYS)
    if of_events_too:
        await read.execute(_INSERT_HOURS_OF_EVENTS)


_DELETE_EXPIRED_HOURS = """
delete from read.rebuild_hours
 where bucket < $1
"""


async def drop_expired_hours(read: Connection, kept_since: datetime | None) -> None:
    """Take hours out of the queue whose events retention has dropped: their counts can be compared with nothing."""
    if kept_since is not None:
        await read.execute(_DELETE_EXPIRED_HOURS, kept_since)


_COUNT_EVENTS_OF_HOURS = (
    """
select wanted.partner_system_id, wanted.bucket, counted.*
  from unnest($1::uuid[], $2::timestamptz[]) as wanted (partner_system_id, bucket)
 cross join lateral (
        select r.event_name,
"""  # noqa: S608 - all parts are constants
    + COUNT_BY_KIND
    + """
          from read.tracking_events_read_model r
         where r.partner_system_id = wanted.partner_system_id
           and r.event_timestamp >= wanted.bucket
           and r.event_timestamp < wanted.bucket + interval '1 hour'
         group by r.event_name
       ) as counted
"""
)

_SELECT_COUNTS_OF_HOURS = """
select known.partner_system_id,
       known.bucket,
       known.event_name,
       known.valid,
       known.invalid,
       known.bots_valid,
       known.bots_invalid
  from unnest($1::uuid[], $2::timestamptz[]) as wanted (partner_system_id, bucket)
  join read.event_counts_hourly known
    on known.partner_system_id = wanted.partner_system_id
   and known.bucket = wanted.bucket
"""


class PartiallyAppliedCounts:
    """The counts of batches that not both consumers have applied so far. Each part of a batch is read once."""

    def __init__(self, write: Connection) -> None:
        self._write = write
        self._known: dict[tuple[UUID, tuple[Range[int], ...] | None], HourlyCounts] = {}

    async def counts(self, parts: Sequence[AppliedPart]) -> HourlyCounts:
        """Return, by system, hour and event name, how many more events the read model has than the rollup.

        That is because of batches that only one consumer has applied so far. Negative where the rollup has more.
        """
        wanted = {(part.batch_id, part.positions) for part in parts}
        self._known = {key: counts for key, counts in self._known.items() if key in wanted}
        for key in wanted - self._known.keys():
            self._known[key] = await _count_batch(self._write, *key)
        ahead = CountDifference()
        for part in parts:
            ahead.add(self._known[part.batch_id, part.positions], 1 if part.consumer == "projector" else -1)
        return ahead.counts


class CountDifference:
    """A sum of counts, some of which are subtracted."""

    def __init__(self) -> None:
        self._numbers: dict[HourlyCountKey, list[int]] = {}

    def add(self, counts: HourlyCounts, sign: int) -> None:
        """Add `counts`, multiplied by `sign`."""
        for key, numbers in counts.items():
            known = self._numbers.setdefault(key, [0] * len(COUNT_KINDS))
            for index, number in enumerate(numbers):
                known[index] += sign * number

    @property
    def counts(self) -> HourlyCounts:
        """Return the differences that are not zero."""
        return {key: numbers for key, numbers in self._numbers.items() if any(numbers)}


_COUNT_BATCH = (
    """
select e.partner_system_id,
       date_trunc('hour', e.event_timestamp) as bucket,
       e.event_name,
"""
    + COUNT_BY_KIND
    + """
  from write.event_batches b
 cross join lateral unnest(b.partner_system_ids, b.event_ids)
       with ordinality as claimed (partner_system_id, id, number)
  join write.tracking_events e
    on e.partner_system_id = claimed.partner_system_id
   and e.id = claimed.id
 where b.id = $1
   and ($2::int4multirange is null or claimed.number::integer - 1 <@ $2::int4multirange)
 group by 1, 2, 3
"""
)


async def _count_batch(write: Connection, batch_id: UUID, positions: Sequence[Range[int]] | None) -> HourlyCounts:
    async with write.transaction(readonly=True):
        await write.execute(USE_INDEX_LOOKUPS_CUSTOM_PLANS)
        return _as_counts(await write.fetch(_COUNT_BATCH, batch_id, positions))


async def find_count_differences(
    snapshot: Connection, partially_applied: PartiallyAppliedCounts, hours: Sequence[HourKey]
) -> HourlyCounts:
    """Return the numbers to add to the counts of these hours so that they become those of their events."""
    wanted = [system for system, _ in hours], [hour for _, hour in hours]
    async with snapshot.transaction(isolation="repeatable_read", readonly=True):
        partially = await applied_batches.list_partially_applied(snapshot, topology.CONSUMERS)
        await snapshot.execute(USE_INDEX_LOOKUPS_CUSTOM_PLANS)
        events = _as_counts(await snapshot.fetch(_COUNT_EVENTS_OF_HOURS, *wanted))
        counted = _as_counts(await snapshot.fetch(_SELECT_COUNTS_OF_HOURS, *wanted))
    ahead = await partially_applied.counts(partially)
    among = set(hours)
    difference = CountDifference()
    difference.add(events, 1)
    difference.add({key: counts for key, counts in ahead.items() if key[:2] in among}, -1)
    difference.add(counted, -1)
    return difference.counts


def _as_counts(rows: Sequence[Any]) -> HourlyCounts:
    return {(system, hour, name): numbers for system, hour, name, *numbers in rows}


_DELETE_HOURS = """
delete from read.rebuild_hours as done
 using unnest($1::uuid[], $2::timestamptz[]) as given (partner_system_id, bucket)
 where done.partner_system_id = given.partner_system_id
   and done.bucket = given.bucket
"""


async def write_count_differences(read: Connection, hours: Sequence[HourKey], difference: HourlyCounts) -> int:
    """Add the differences, sum up the days, and delete the hours from the queue; return how many counts were wrong.

    Must be called inside a transaction. Raises RebuildStuck if hours stay in the queue, as they would come again.
    """
    await read.execute(USE_INDEX_LOOKUPS_CUSTOM_PLANS)
    if difference:
        await rollups.add_hourly_counts(read, difference)
        await rollups.delete_empty_hourly_counts(read, difference)
    wrong_days = await rollups.rebuild_daily_counts(read, hours)
    status = await read.execute(_DELETE_HOURS, [system for system, _ in hours], [hour for _, hour in hours])
    if parse_row_count(status) < len(hours):
        raise RebuildStuck("hours that were compared cannot be deleted from read.rebuild_hours")
    days = {(system, hour.date()) for system, hour in {key[:2] for key in difference} | set(wrong_days)}
    await range_versions.raise_versions(read, days, range_versions.REBUILD)
    return len(difference) + len(wrong_days)


_SELECT_EVENTS_OF_HOURS = """
select r.partner_system_id, r.event_timestamp, r.id
  from unnest($1::uuid[], $2::timestamptz[]) as wanted (partner_system_id, bucket)
 cross join lateral (
        select partner_system_id, event_timestamp, id
          from read.tracking_events_read_model
         where partner_system_id = wanted.partner_system_id
           and event_timestamp >= wanted.bucket
           and event_timestamp < wanted.bucket + interval '1 hour'
       ) as r
"""

_SELECT_MISSING_EVENTS = """
select given.partner_system_id, given.event_timestamp, given.id
  from unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) as given (partner_system_id, event_timestamp, id)
  left join write.tracking_events e
    on e.partner_system_id = given.partner_system_id
   and e.id = given.id
 where e.event_timestamp is distinct from given.event_timestamp
"""


async def find_strays(snapshot: Connection, write: Connection, hours: Sequence[HourKey]) -> list[EventKey]:
    """Return the rows of these hours that the write database does not have, or has at another time.

    The write database is read after the read database. Every row of the read model was committed in the write database
    before, so a row that is missing there is an error.
    """
    strays: list[EventKey] = []
    async with snapshot.transaction(isolation="repeatable_read", readonly=True), write.transaction(readonly=True):
        await snapshot.execute(USE_INDEX_LOOKUPS_CUSTOM_PLANS)
        await write.execute(USE_INDEX_LOOKUPS_CUSTOM_PLANS)
        page: list[EventKey] = []
        wanted = [system for system, _ in hours], [hour for _, hour in hours]
        async for row in snapshot.cursor(_SELECT_EVENTS_OF_HOURS, *wanted, prefetch=_PAGE_EVENTS):
            page.append((row["partner_system_id"], row["event_timestamp"], row["id"]))
            if len(page) == _PAGE_EVENTS:
                strays += await _find_missing_in_write_database(write, page)
                page = []
        if page:
            strays += await _find_missing_in_write_database(write, page)
    return strays


async def _find_missing_in_write_database(write: Connection, keys: Sequence[EventKey]) -> list[EventKey]:
    rows = await write.fetch(
        _SELECT_MISSING_EVENTS,
        [system for system, _, _ in keys],
        [at for _, at, _ in keys],
        [event for _, _, event in keys],
    )
    return [(row["partner_system_id"], row["event_timestamp"], row["id"]) for row in rows]


async def queue_hours(read: Connection, hours: Collection[HourKey]) -> None:
    """Queue hours whose counts are to be compared with the events."""
    if hours:
        await read.execute(_INSERT_HOURS, [system for system, _ in hours], [hour for _, hour in hours])
