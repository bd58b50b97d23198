"""SQL of `write.api_keys`, which holds fingerprints of keys and never a key."""

from typing import Any
from uuid import UUID

from tracking.domain.api_key import ApiKey
from tracking.domain.credentials import Fingerprint
from tracking.domain.errors import NotFound
from tracking.infra.postgres import Connection

_INSERT_KEY = """
insert into write.api_keys (id, partner_system_id, name, key_sha256, prefix, last_four, created_at, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def insert_key(connection: Connection, key: ApiKey) -> None:
    """Insert a new key.

    A conflict of its hash is not handled: equal secrets of 190 random bits are not to be expected.
    """
    await connection.execute(
        _INSERT_KEY,
        key.id,
        key.partner_system_id,
        key.name,
        key.fingerprint.sha256,
        key.fingerprint.prefix,
        key.fingerprint.last_four,
        key.created_at,
        key.expires_at,
    )


_UPDATE_KEY = """
update write.api_keys
   set expires_at = $2, revoked_at = $3
 where id = $1
"""


async def update_key(connection: Connection, key: ApiKey) -> None:
    """Update the end of a key; its other columns never change."""
    await connection.execute(_UPDATE_KEY, key.id, key.expires_at, key.revoked_at)


_SELECT_KEY = """
select id, partner_system_id, name, key_sha256, prefix, last_four, created_at, expires_at, revoked_at, last_used_at
  from write.api_keys
 where partner_system_id = $1
   and id = $2
"""
_LOCK_KEY = _SELECT_KEY + " for update"


async def find_key(
    connection: Connection, partner_system_id: UUID, key_id: UUID, *, should_lock: bool = False
) -> ApiKey:
    """Find a key; a command that changes it locks its row.

    Raises NotFound, also for the key of another system.
    """
    row = await connection.fetchrow(_LOCK_KEY if should_lock else _SELECT_KEY, partner_system_id, key_id)
    if row is None:
        raise NotFound("api_key_not_found", f"System {partner_system_id} has no API key {key_id}.")
    return _to_key(row)


_SELECT_KEYS = """
select id, partner_system_id, name, key_sha256, prefix, last_four, created_at, expires_at, revoked_at, last_used_at
  from write.api_keys
 where partner_system_id = $1
 order by created_at, id
"""


async def list_keys(connection: Connection, partner_system_id: UUID) -> list[ApiKey]:
    """Return all keys of a system, oldest first. They are few, so there are no pages."""
    return [_to_key(row) for row in await connection.fetch(_SELECT_KEYS, partner_system_id)]


def _to_key(row: Any) -> ApiKey:
    values = dict(row)
    fingerprint = Fingerprint(values.pop("key_sha256"), values.pop("prefix"), values.pop("last_four"))
    return ApiKey.restore(fingerprint=fingerprint, **values)
