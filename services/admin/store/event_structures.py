"""SQL of `write.event_structures` and `write.event_structure_versions`."""

from typing import Any
from uuid import UUID

import asyncpg
import orjson

from tracking.domain.errors import Conflict, Malformed, NotFound
from tracking.domain.event_structure import EventStructure, StructureVersion, VersionStatus, restore_structure
from tracking.infra.postgres import Connection

_INSERT_STRUCTURE = """
insert into write.event_structures (id, partner_id, event_name, description, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6)
"""


async def insert_structure(connection: Connection, structure: EventStructure) -> None:
    """Insert a structure with its versions.

    Raises Conflict if the event name has a structure already, NotFound if the partner does not exist.
    """
    try:
        await connection.execute(
            _INSERT_STRUCTURE,
            structure.id,
            structure.partner_id,
            structure.event_name,
            structure.description,
            structure.created_at,
            structure.updated_at,
        )
    except asyncpg.UniqueViolationError as error:
        message = f"{structure.event_name!r} has a structure already; add a version to it."
        raise Conflict("event_structure_exists", message) from error
    except asyncpg.ForeignKeyViolationError as error:
        raise NotFound("partner_not_found", f"There is no partner {structure.partner_id}.") from error
    await _save_versions(connection, structure.versions, structure.id)


_UPDATE_STRUCTURE = """
update write.event_structures
   set description = $2, updated_at = $3
 where id = $1
"""

_UPSERT_VERSION = """
insert into write.event_structure_versions
       (structure_id, version, schema, status, created_at, published_at, deprecated_at)
values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (structure_id, version)
    do update set status = excluded.status,
                  published_at = excluded.published_at,
                  deprecated_at = excluded.deprecated_at
"""


async def update_structure(connection: Connection, structure: EventStructure) -> None:
    """Update a structure and the versions that changed. A schema never changes once it is stored."""
    await connection.execute(_UPDATE_STRUCTURE, structure.id, structure.description, structure.updated_at)
    await _save_versions(connection, structure.changed_versions, structure.id)


async def _save_versions(connection: Connection, versions: list[StructureVersion], structure_id: UUID) -> None:
    for version in versions:
        try:
            await connection.execute(
                _UPSERT_VERSION,
                structure_id,
                version.version,
                orjson.dumps(version.schema),
                version.status,
                version.created_at,
                version.published_at,
                version.deprecated_at,
            )
        except asyncpg.UntranslatableCharacterError as error:
            fault = {"field": "schema", "message": "a string holds \\u0000, which PostgreSQL cannot store"}
            raise Malformed("invalid_schema", f"schema: {fault['message']}.", [fault]) from error


_SELECT_STRUCTURE = """
select id, partner_id, event_name, description, created_at, updated_at
  from write.event_structures
 where id = $1
"""
_LOCK_STRUCTURE = _SELECT_STRUCTURE + " for update"

_SELECT_VERSIONS = """
select version, schema, status, created_at, published_at, deprecated_at
  from write.event_structure_versions
 where structure_id = $1
 order by version
"""


async def find_structure(connection: Connection, structure_id: UUID, *, should_lock: bool = False) -> EventStructure:
    """Find a structure with its versions. Raises NotFound.

    A command locks its row, so that commands on the same structure run one after the other.
    """
    row = await connection.fetchrow(_LOCK_STRUCTURE if should_lock else _SELECT_STRUCTURE, structure_id)
    if row is None:
        raise NotFound("event_structure_not_found", f"There is no event structure {structure_id}.")
    versions = [
        StructureVersion(
            version["version"],
            orjson.loads(version["schema"]),
            VersionStatus(version["status"]),
            version["created_at"],
            version["published_at"],
            version["deprecated_at"],
        )
        for version in await connection.fetch(_SELECT_VERSIONS, structure_id)
    ]
    return restore_structure(**dict(row), versions=versions)


_SELECT_STRUCTURES = """
select s.id, s.partner_id, s.event_name, s.description, s.created_at, s.updated_at,
       (select max(v.version) filter (where v.status = 'published')
          from write.event_structure_versions v
         where v.structure_id = s.id) as current_version,
       (select max(v.version)
          from write.event_structure_versions v
         where v.structure_id = s.id) as latest_version
  from write.event_structures s
 where s.partner_id is not distinct from $1
   and ($2::text is null or s.event_name = $2)
 order by s.created_at, s.id
 limit $3 offset $4
"""

_COUNT_STRUCTURES = """
select count(*)
  from write.event_structures s
 where s.partner_id is not distinct from $1
   and ($2::text is null or s.event_name = $2)
"""


async def list_structures(
    connection: Connection, partner_id: UUID | None, event_name: str | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """Return a page of the global structures or a partner's, and the number of all; oldest first, without schemas."""
    rows = await connection.fetch(_SELECT_STRUCTURES, partner_id, event_name, limit, offset)
    total = await connection.fetchval(_COUNT_STRUCTURES, partner_id, event_name)
    return [dict(row) for row in rows], int(total)
