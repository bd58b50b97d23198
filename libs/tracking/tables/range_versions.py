"""`read.range_versions`: a number for each partner system and day that grows with every change to it."""

from collections.abc import Collection
from datetime import date
from uuid import UUID

from tracking.infra.postgres import Connection, Pool

# a partner system and a day in UTC
SystemDay = tuple[UUID, date]
REBUILD = "rebuild"

# In key order, so that workers side by side lock rows in the same order and never each other.
_UPSERT_VERSIONS = """
insert into read.range_versions as known (partner_system_id, day, consumer, version)
select partner_system_id, day, $3, case when $4 then (extract(epoch from clock_timestamp()) * 1000)::bigint else 1 end
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
    """Return a number that grows with each change to the partner system's days (UTC) from first to last.

    Raises the errors of asyncpg.
    """
    version: int = await connection.fetchval(_SELECT_VERSION, partner_system_id, first_day, last_day)
    return version


async def raise_versions(read: Connection, days: Collection[SystemDay], consumer: str) -> None:
    """Invalidate cached answers about these days; `consumer` is a worker's name or `REBUILD`.

    A rebuild's versions start at the clock in milliseconds, because the read database may be a new one, and a version
    that a cache holds of the old one must not occur again.
    """
    if days:
        systems, dates = [system for system, _ in days], [day for _, day in days]
        await read.execute(_UPSERT_VERSIONS, systems, dates, consumer, consumer == REBUILD)
