"""SQL of `write.partner_systems`."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from tracking.contracts.system_settings import decode_settings, encode_settings
from tracking.domain.errors import NotFound
from tracking.domain.partner import PartnerSystem
from tracking.infra.postgres import Connection

_INSERT_SYSTEM = """
insert into write.partner_systems
       (id, partner_id, name, type, description, settings, is_active, deactivated_at, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def insert_system(connection: Connection, system: PartnerSystem) -> None:
    """Insert a system. Its partner exists, because the command loaded it in this transaction."""
    await connection.execute(
        _INSERT_SYSTEM,
        system.id,
        system.partner_id,
        system.name,
        system.type,
        system.description,
        encode_settings(system.settings),
        system.is_active,
        system.deactivated_at,
        system.created_at,
        system.updated_at,
    )


_UPDATE_SYSTEM = """
update write.partner_systems
   set name = $2, type = $3, description = $4, settings = $5, is_active = $6, deactivated_at = $7, updated_at = $8
 where id = $1
"""


async def update_system(connection: Connection, system: PartnerSystem) -> None:
    """Update a system. The partner of a system never changes."""
    await connection.execute(
        _UPDATE_SYSTEM,
        system.id,
        system.name,
        system.type,
        system.description,
        encode_settings(system.settings),
        system.is_active,
        system.deactivated_at,
        system.updated_at,
    )


_SELECT_SYSTEM = """
select id, partner_id, name, type, description, settings, deactivated_at, created_at, updated_at
  from write.partner_systems
 where id = $1
"""
_LOCK_SYSTEM = _SELECT_SYSTEM + " for update"


async def find_system(connection: Connection, partner_system_id: UUID, *, should_lock: bool = False) -> PartnerSystem:
    """Find a system. Raises NotFound.

    A command that changes it locks its row, so that such commands run one after the other.
    """
    row = await connection.fetchrow(_LOCK_SYSTEM if should_lock else _SELECT_SYSTEM, partner_system_id)
    if row is None:
        raise NotFound("partner_system_not_found", f"There is no partner system {partner_system_id}.")
    return PartnerSystem.restore(**_decode_row(row))


_SELECT_UPDATED_AT = """
select updated_at
  from write.partner_systems
 where id = $1
"""


async def find_update_time(connection: Connection, partner_system_id: UUID) -> datetime | None:
    """When the system was last changed, None if it is not there; each change is later than the one before."""
    found: datetime | None = await connection.fetchval(_SELECT_UPDATED_AT, partner_system_id)
    return found


def _decode_row(row: asyncpg.Record) -> dict[str, Any]:
    return {**row, "settings": decode_settings(row["settings"])}


_SELECT_SYSTEMS = """
select id, partner_id, name, type, description, settings, is_active, deactivated_at, created_at, updated_at
  from write.partner_systems
 where ($1::uuid is null or partner_id = $1)
   and ($2::boolean is null or is_active = $2)
 order by created_at, id
 limit $3 offset $4
"""

_COUNT_SYSTEMS = """
select count(*)
  from write.partner_systems
 where ($1::uuid is null or partner_id = $1)
   and ($2::boolean is null or is_active = $2)
"""


async def list_systems(
    connection: Connection, partner_id: UUID | None, is_active: bool | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """Return a page of systems, oldest first, and the number of all."""
    rows = await connection.fetch(_SELECT_SYSTEMS, partner_id, is_active, limit, offset)
    return [_decode_row(row) for row in rows], int(await connection.fetchval(_COUNT_SYSTEMS, partner_id, is_active))
