"""`read.range_versions`: a number for each partner system and day that grows with every change to it."""

from collections.abc import Collection
from datetime import date, datetime
from uuid import UUID

from tracking.infra.postgres import Connection, Pool

# from the clock, so that no version that a cache may hold from a read database before this one comes back
_UPSERT_VERSIONS = """
insert into read.range_versions as known (partner_system_id, day, consumer, version)
select partner_system_id, day, 'rebuild', (extract(epoch from clock_timestamp()) * 1000)::bigint
  from unnest($1::uuid[], $2::date[]) as touched (partner_system_id, day)
 order by partner_system_id, day
    on conflict (partner_system_id, day, consumer)
    do update set version = greatest(known.version + 1, excluded.version)
"""

# each change to a day raises its versions, so the same sum means that nothing changed
_SELECT_VERSION = """
select coalesce(sum(version), 0)::bigint
  from read.range_versions
 where partner_system_id = $1
   and day >= $2
   and day <= $3
"""


async def read_version(connection: Pool | Connection, partner_system_id: UUID, first_day: date, last_day: date) -> int:
    """A number that grows with each change to the partner system's days (UTC) from the first to the last.

    Raises what asyncpg raises.
    """
    version: int = await connection.fetchval(_SELECT_VERSION, partner_system_id, first_day, last_day)
    return version


async def raise_versions(read: Connection, touched: Collection[tuple[UUID, datetime]]) -> None:
    """Let no cache believe in the days (UTC) of these times any more."""
    days = sorted({(system, at.date()) for system, at in touched})
    if days:
        await read.execute(_UPSERT_VERSIONS, [system for system, _ in days], [day for _, day in days])
