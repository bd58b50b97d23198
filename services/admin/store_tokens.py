"""Access tokens in the write database."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from tracking.domain.access_token import AccessToken
from tracking.domain.credentials import Fingerprint
from tracking.domain.errors import NotFound
from tracking.infra.postgres import Connection

_INSERT_TOKEN = """
insert into write.access_tokens
       (id, name, token_sha256, prefix, last_four, scope, partner_id, created_at, expires_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def insert_token(connection: Connection, token: AccessToken) -> None:
    """Raises NotFound if its partner is not there."""
    try:
        await connection.execute(
            _INSERT_TOKEN,
            token.id,
            token.name,
            token.fingerprint.sha256,
            token.fingerprint.prefix,
            token.fingerprint.last_four,
            token.scope,
            token.partner_id,
            token.created_at,
            token.expires_at,
            token.updated_at,
        )
    except asyncpg.ForeignKeyViolationError as error:
        raise NotFound("partner_not_found", f"There is no partner {token.partner_id}.") from error


_UPDATE_TOKEN = """
update write.access_tokens
   set revoked_at = $2, updated_at = $3
 where id = $1
"""


async def update_token(connection: Connection, token: AccessToken) -> None:
    """Only the end of a token ever changes."""
    await connection.execute(_UPDATE_TOKEN, token.id, token.revoked_at, token.updated_at)


_LOAD_TOKEN = """
select id, name, token_sha256, prefix, last_four, scope, partner_id, created_at, expires_at, revoked_at, updated_at
  from write.access_tokens
 where id = $1
   for update
"""


async def load_token(connection: Connection, token_id: UUID) -> AccessToken:
    """Raises NotFound."""
    row = await connection.fetchrow(_LOAD_TOKEN, token_id)
    if row is None:
        raise NotFound("token_not_found", f"There is no token {token_id}.")
    values = dict(row)
    fingerprint = Fingerprint(values.pop("token_sha256"), values.pop("prefix"), values.pop("last_four"))
    return AccessToken.restore(fingerprint=fingerprint, **values)


_LIST_TOKENS = """
select id, name, prefix, last_four, scope, partner_id, created_at, expires_at, revoked_at,
       revoked_at is null and (expires_at is null or expires_at > now()) as is_usable
  from write.access_tokens
 order by created_at, id
 limit $1 offset $2
"""

_COUNT_TOKENS = "select count(*) from write.access_tokens"


async def list_tokens(connection: Connection, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """A page, oldest first, and how many there are in all."""
    rows = await connection.fetch(_LIST_TOKENS, limit, offset)
    return [dict(row) for row in rows], int(await connection.fetchval(_COUNT_TOKENS))


_FIND_TOKEN = """
select scope, partner_id, expires_at, revoked_at
  from write.access_tokens
 where token_sha256 = $1
"""


async def find_token(connection: Connection, token_sha256: bytes) -> dict[str, Any] | None:
    """What decides about a request with this token."""
    row = await connection.fetchrow(_FIND_TOKEN, token_sha256)
    return None if row is None else dict(row)


BOOTSTRAP_NAME = "bootstrap"

_LOCK_BOOTSTRAP = "select pg_advisory_xact_lock(7236402)"

_BOOTSTRAP_TOKENS = """
select id, token_sha256, revoked_at
  from write.access_tokens
 where name = $1
"""

_RESTORE_BOOTSTRAP = """
update write.access_tokens
   set revoked_at = null, updated_at = $2
 where id = $1
"""


async def bootstrap_tokens(connection: Connection) -> list[dict[str, Any]]:
    """Those that came from the environment; locks out other starting processes until the transaction ends."""
    await connection.execute(_LOCK_BOOTSTRAP)
    return [dict(row) for row in await connection.fetch(_BOOTSTRAP_TOKENS, BOOTSTRAP_NAME)]


async def restore_bootstrap(connection: Connection, token_id: UUID, now: datetime) -> None:
    """The environment names a token again that it had named before."""
    await connection.execute(_RESTORE_BOOTSTRAP, token_id, now)
