"""Reads from the write database the cache entries that a change of the registry affects.

The entries always hold the present state, whichever domain event caused the update. Those of credentials also hold the
generation up to which they are surely true. They are written to Redis under the
keys and in the form of `contracts.cache_entries`. Gateways and query drop their own copy when the invalidation arrives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from tracking.contracts import cache_entries
from tracking.contracts.cache_entries import AccessTokenEntry, ApiKeyEntry, EventStructureEntry, PartnerSystemEntry
from tracking.contracts.invalidation import Invalidation
from tracking.contracts.system_settings import decode_settings
from tracking.domain.partner import SystemType
from tracking.infra.postgres import Connection

CacheEntry = AccessTokenEntry | ApiKeyEntry | EventStructureEntry | PartnerSystemEntry

# Read before the entries, which may therefore have more changes than it says, but never fewer.
_SELECT_GENERATION = "select coalesce(max(generation), 0) from write.credential_changes"


@dataclass(slots=True)
class CacheUpdates:
    """Cache entries as `{key in Redis: entry}`, and the invalidations to publish once all entries are written."""

    generation: int
    entries: dict[str, CacheEntry] = field(default_factory=dict)
    invalidations: list[Invalidation] = field(default_factory=list)

    def add(self, key: str, entry: CacheEntry, invalidation: Invalidation | None = None) -> None:
        """Add an entry once for each key, however many domain events changed it."""
        if invalidation is not None and key not in self.entries:
            self.invalidations.append(invalidation)
        self.entries[key] = entry

    def has_same_entries(self, other: "CacheUpdates") -> bool:
        """Return whether the entries say the same, whatever their generation is."""
        return _normalize(self) == _normalize(other)


def _normalize(updates: CacheUpdates) -> dict[str, CacheEntry | bytes]:
    # schemas are held as JSON fragments, which are equal to nothing but themselves
    return {
        key: entry.encode() if isinstance(entry, EventStructureEntry) else entry
        for key, entry in updates.entries.items()
    }


async def read_cache_updates(connection: Connection, payloads: Sequence[dict[str, Any]]) -> CacheUpdates:
    """Read every cache entry that the domain events with these payloads may have changed."""
    entries = CacheUpdates(await connection.fetchval(_SELECT_GENERATION))
    for payload in payloads:
        match payload:
            case {"structure_id": structure_id}:
                await _add_structure(entries, connection, UUID(structure_id))
            case {"token_id": token_id}:
                _add_tokens(entries, await connection.fetch(_SELECT_TOKEN, UUID(token_id)))
            case {"key_id": key_id}:
                _add_keys(entries, await connection.fetch(_SELECT_KEY, UUID(key_id)))
            case {"partner_system_id": partner_system_id}:
                _add_keys(entries, await connection.fetch(_SELECT_KEYS_OF_SYSTEM, UUID(partner_system_id)))
                _add_systems(entries, await connection.fetch(_SELECT_SYSTEM, UUID(partner_system_id)))
            case {"partner_id": partner_id}:
                _add_keys(entries, await connection.fetch(_SELECT_KEYS_OF_PARTNER, UUID(partner_id)))
                _add_tokens(entries, await connection.fetch(_SELECT_TOKENS_OF_PARTNER, UUID(partner_id)))
    return entries


_SELECT_KEYS = """
select k.key_sha256,
       k.id as key_id,
       k.expires_at,
       k.revoked_at,
       s.id as partner_system_id,
       s.name as system_name,
       s.is_active as is_system_active,
       s.settings,
       p.id as partner_id,
       p.name as partner_name,
       p.is_active as is_partner_active
  from write.api_keys k
  join write.partner_systems s on s.id = k.partner_system_id
  join write.partners p on p.id = s.partner_id
"""
_SELECT_KEY = _SELECT_KEYS + " where k.id = $1"
_SELECT_KEYS_OF_SYSTEM = _SELECT_KEYS + " where s.id = $1 order by k.id"
_SELECT_KEYS_OF_PARTNER = _SELECT_KEYS + " where p.id = $1 order by k.id"


def _add_keys(entries: CacheUpdates, rows: Sequence[Any]) -> None:
    for row in rows:
        values = {**row, "generation": entries.generation}
        digest = values.pop("key_sha256").hex()
        key = cache_entries.make_api_key_cache_key(digest)
        entries.add(key, ApiKeyEntry.from_row(values), Invalidation("api_key", digest))


_SELECT_SYSTEM = """
select id, partner_id, name, type, description, settings, deactivated_at, created_at, updated_at
  from write.partner_systems
 where id = $1
"""


def _add_systems(entries: CacheUpdates, rows: Sequence[Any]) -> None:
    for row in rows:
        values = {**row, "type": SystemType(row["type"]), "settings": decode_settings(row["settings"])}
        entries.add(cache_entries.make_partner_system_cache_key(row["id"]), PartnerSystemEntry(**values))


_SELECT_STRUCTURE = """
select partner_id, event_name
  from write.event_structures
 where id = $1
"""

_SELECT_VERSIONS = """
select version, schema
  from write.event_structure_versions
 where structure_id = $1
   and status <> 'draft'
 order by version
"""


async def _add_structure(entries: CacheUpdates, connection: Connection, structure_id: UUID) -> None:
    structure = await connection.fetchrow(_SELECT_STRUCTURE, structure_id)
    if structure is None:
        return
    versions = await connection.fetch(_SELECT_VERSIONS, structure_id)
    entry = EventStructureEntry(structure_id, {row["version"]: orjson.Fragment(row["schema"]) for row in versions})
    key = cache_entries.make_event_structure_cache_key(structure["partner_id"], structure["event_name"])
    entries.add(key, entry, Invalidation("structure"))


_SELECT_TOKENS = """
select t.token_sha256,
       t.scope,
       t.partner_id,
       t.expires_at,
       t.revoked_at,
       coalesce(p.is_active, true) as is_partner_active
  from write.access_tokens t
  left join write.partners p on p.id = t.partner_id
"""
_SELECT_TOKEN = _SELECT_TOKENS + " where t.id = $1"
_SELECT_TOKENS_OF_PARTNER = _SELECT_TOKENS + " where t.partner_id = $1 order by t.id"


def _add_tokens(entries: CacheUpdates, rows: Sequence[Any]) -> None:
    for row in rows:
        values = {**row, "generation": entries.generation}
        digest = values.pop("token_sha256").hex()
        key = cache_entries.make_access_token_cache_key(digest)
        entries.add(key, AccessTokenEntry(**values), Invalidation("access_token", digest))
