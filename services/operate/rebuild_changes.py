"""What both halves of a rebuild change in the read database; every function is to be called inside a transaction.

Rows are locked in the order in which the workers lock them: inbox, events, counts in key order, links, versions.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from tracking.infra.postgres import Connection

# (system, the beginning of an hour in UTC)
Hour = tuple[UUID, datetime]
# system, hour, event name
CountKey = tuple[UUID, datetime, str]
# each as many as KINDS, in their order; of a difference some may be negative
Counts = Mapping[CountKey, Sequence[int]]
# what is counted apart: columns of the rollup
KINDS = ("valid", "invalid", "bots_valid", "bots_invalid")
# (system, event_timestamp, id), the primary key of the read model
EventKey = tuple[UUID, datetime, UUID]

_DELETE_EVENTS = """
delete from read.tracking_events_read_model as r
 using unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) as given (partner_system_id, event_timestamp, id)
 where r.partner_system_id = given.partner_system_id
   and r.event_timestamp = given.event_timestamp
   and r.id = given.id
"""


async def delete_events(read: Connection, keys: Sequence[EventKey]) -> None:
    """Delete rows of the read model."""
    await read.execute(
        _DELETE_EVENTS, [system for system, _, _ in keys], [at for _, at, _ in keys], [event for _, _, event in keys]
    )


def kind(is_valid: bool, is_bot: bool) -> int:
    """Where in KINDS an event belongs."""
    return 2 * is_bot + (not is_valid)


_ADD_COUNTS = """
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

_DELETE_EMPTY_COUNTS = """
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


async def add_counts(read: Connection, counts: Counts) -> None:
    """Add to the rollup, as the statistics worker does beside it; what has become nothing is deleted."""
    if not counts:
        return
    keys = [[system for system, _, _ in counts], [hour for _, hour, _ in counts], [name for _, _, name in counts]]
    await read.execute(_ADD_COUNTS, *keys, *([numbers[n] for numbers in counts.values()] for n in range(len(KINDS))))
    await read.execute(_DELETE_EMPTY_COUNTS, *keys)


# from the clock, so that no version that a cache may hold from a read database before this one comes back
_RAISE_VERSIONS = """
insert into read.range_versions as known (partner_system_id, day, consumer, version)
select partner_system_id, day, 'rebuild', (extract(epoch from clock_timestamp()) * 1000)::bigint
  from unnest($1::uuid[], $2::date[]) as touched (partner_system_id, day)
 order by partner_system_id, day
    on conflict (partner_system_id, day, consumer)
    do update set version = greatest(known.version + 1, excluded.version)
"""


async def raise_versions(read: Connection, touched: Collection[tuple[UUID, datetime]]) -> None:
    """Let no cache believe in the days (UTC) of these times any more."""
    days = sorted({(system, at.date()) for system, at in touched})
    if days:
        await read.execute(_RAISE_VERSIONS, [system for system, _ in days], [day for _, day in days])


_REMEMBER_HOURS = """
insert into read.rebuild_hours (partner_system_id, bucket)
select partner_system_id, bucket
  from unnest($1::uuid[], $2::timestamptz[]) as given (partner_system_id, bucket)
    on conflict do nothing
"""


async def remember_hours(read: Connection, hours: Collection[Hour]) -> None:
    """Note hours whose counts are to be compared with the events."""
    if hours:
        await read.execute(_REMEMBER_HOURS, [system for system, _ in hours], [hour for _, hour in hours])
