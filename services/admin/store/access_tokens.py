"""SQL of `write.access_tokens`."""

from typing import Any
from uuid import UUID

import asyncpg

from tracking.domain.access_token import AccessToken
from tracking.domain.credentials import Fingerprint
from tracking.domain.errors import NotFound
from tracking.infra.postgres import BOOTSTRAP_LOCK, Connection

_INSERT_TOKEN = """
insert into write.access_tokens
       (id, name, token_sha256, prefix, last_four, scope, partner_id, created_at, expires_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def insert_token(connection: Connection, token: AccessToken) -> None:
    """Insert a token. Raises NotFound if its partner does not exist."""
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
    """Update the end of a token; its other columns never change."""
    await connection.execute(_UPDATE_TOKEN, token.id, token.revoked_at, token.updated_at)


_SELECT_TOKEN = """
select id, name, token_sha256, prefix, last_four, scope, partner_id, created_at, expires_at, revoked_at, updated_at
  from write.access_tokens
"""
_SELECT_TOKEN_BY_ID = _SELECT_TOKEN + " where id = $1"
_LOCK_TOKEN = _SELECT_TOKEN_BY_ID + " for update"


async def find_token(connection: Connection, token_id: UUID, *, should_lock: bool = False) -> AccessToken:
    """Find a token; a command that changes it locks its row. Raises NotFound."""
    row = await connection.fetchrow(_LOCK_TOKEN if should_lock else _SELECT_TOKEN_BY_ID, token_id)
    if row is None:
        raise NotFound("token_not_found", f"There is no token {token_id}.")
    return _token(row)


_SELECT_TOKEN_BY_HASH = _SELECT_TOKEN + " where token_sha256 = $1"


async def find_token_by_hash(connection: Connection, token_sha256: bytes) -> AccessToken | None:
    """Find the token whose secret has this hash."""
    row = await connection.fetchrow(_SELECT_TOKEN_BY_HASH, token_sha256)
    return None if row is None else _token(row)


_LOCK_BOOTSTRAP = "select pg_advisory_xact_lock($1)"
_LOCK_BOOTSTRAP_TOKENS = _SELECT_TOKEN + " where (name = $1 and revoked_at is null) or token_sha256 = $2 for update"


async def lock_bootstrap_tokens(connection: Connection, name: str, token_sha256: bytes) -> list[AccessToken]:
    """Lock the valid tokens that came from the environment, and the token with this hash.

    Other processes that are starting wait for the lock.
    """
    await connection.execute(_LOCK_BOOTSTRAP, BOOTSTRAP_LOCK)
    return [_token(row) for row in await connection.fetch(_LOCK_BOOTSTRAP_TOKENS, name, token_sha256)]


def _token(row: Any) -> AccessToken:
    values = dict(row)
    fingerprint = Fingerprint(values.pop("token_sha256"), values.pop("prefix"), values.pop("last_four"))
    return AccessToken.restore(fingerprint=fingerprint, **values)


_SELECT_TOKENS = _SELECT_TOKEN + " order by created_at, id limit $1 offset $2"

_COUNT_TOKENS = "select count(*) from write.access_tokens"


async def list_tokens(connection: Connection, limit: int, offset: int) -> tuple[list[AccessToken], int]:
    """Return a page of tokens, oldest first, and the number of all."""
    rows = await connection.fetch(_SELECT_TOKENS, limit, offset)
    return [_token(row) for row in rows], int(await connection.fetchval(_COUNT_TOKENS))
