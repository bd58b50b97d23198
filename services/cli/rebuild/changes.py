"""What both halves of a rebuild change in the read database; every function is to be called inside a transaction.

Rows are locked in the order in which the workers lock them: inbox, events, counts in key order, links, versions.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from tracking.infra.postgres import Connection
from tracking.tables.rollups import Hour

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
