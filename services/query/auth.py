"""Authenticates access tokens, and says which partner's data a request may see.

A token is looked up in the memory of the process, in Redis, then in the read database, to which the relay replicates it
within about a second. A revocation reaches this process by `cache:invalidate`. Redis is never filled from here, because
the read database may be older than what admin has written there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from uuid import UUID

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.query.database import translate_errors
from tracking.contracts.cache_entries import AccessTokenEntry, make_access_token_cache_key
from tracking.domain.errors import NotFound, Unauthenticated, Unavailable
from tracking.infra import metrics, postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.credential_cache import CredentialCache, hash_secret
from tracking.infra.postgres import Pool

_SELECT_OWNER = """
select partner_id
  from read.partner_systems
 where id = $1
"""

_MAX_ENTRIES = 10_000
_MAX_SYSTEMS = 50_000
_MAX_TOKEN_CHARACTERS = 500
# the wait for a connection included
_LOOK_UP_TIMEOUT_S = 10.0

_SELECT_TOKEN = """
select scope,
       partner_id,
       expires_at,
       revoked_at
  from read.access_tokens
 where token_sha256 = $1
"""


class AccessTokenLookup:
    """Authenticates requests."""

    def __init__(self, redis: CacheAside, pool: postgres.Pool, *, ttl_s: float) -> None:
        self._redis = redis
        self._pool = pool
        self._cache = CredentialCache(redis, self._look_up, ttl_s=ttl_s, max_entries=_MAX_ENTRIES)

    async def authenticate(self, authorization: str | None, now: datetime) -> AccessTokenEntry:
        """The token of an `Authorization: Bearer …` header.

        Raises Unauthenticated (missing, unknown, revoked, expired) and Unavailable (only the database could tell).
        """
        token = parse_bearer_token(authorization)
        entry = None
        if len(token) <= _MAX_TOKEN_CHARACTERS:
            entry = await self._cache.get(hash_secret(token))
        if entry is None or entry.scope not in ("admin", "read"):
            raise Unauthenticated("unknown_token", "This access token is not known.")
        if entry.revoked_at is not None:  # for good, whatever the clock of this process says
            raise Unauthenticated("revoked_token", "This access token was revoked.")
        if entry.expires_at is not None and entry.expires_at <= now:
            raise Unauthenticated("expired_token", "This access token has expired.")
        return entry

    def invalidate(self, digest: str | None = None) -> None:
        """Drop one token's entry, or all."""
        self._cache.invalidate(digest)

    async def _look_up(self, digest: str) -> AccessTokenEntry | None:
        data = await self._redis.get(make_access_token_cache_key(digest))
        entry = AccessTokenEntry.decode(data) if data is not None else None
        return entry or await self._from_database(digest)

    async def _from_database(self, digest: str) -> AccessTokenEntry | None:
        try:
            async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
                row = await self._pool.fetchrow(_SELECT_TOKEN, bytes.fromhex(digest))
        except postgres.TRANSIENT_ERRORS as error:
            raise Unavailable(
                "database_unavailable", "The access token cannot be checked now; try again.", 2
            ) from error
        metrics.cache_lookups.labels("access_token", "database").inc()
        return None if row is None else AccessTokenEntry(**dict(row))


def parse_bearer_token(authorization: str | None) -> str:
    """The token of an `Authorization: Bearer …` header. Raises Unauthenticated for any other."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("missing_token", "No access token: send Authorization: Bearer <token>.")
    return token


class QueryAuthMiddleware:
    """ASGI: nothing but the open paths without a token; not even whether a path exists."""

    def __init__(self, app: ASGIApp, tokens: AccessTokenLookup, open_paths: Collection[str]) -> None:
        self._app = app
        self._tokens = tokens
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in self._open_paths:
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            header = given[0].decode("latin-1") if len(given) == 1 else None
            scope["access_token"] = await self._tokens.authenticate(header, datetime.now(UTC))
            scope["access_token_sha256"] = hash_secret(parse_bearer_token(header))
        await self._app(scope, receive, send)


def get_visible_partner_id(request: Request) -> UUID | None:
    """The one partner whose data the request may see; None = all partners."""
    entry: AccessTokenEntry = request.scope["access_token"]
    return None if entry.scope == "admin" else entry.partner_id


class SystemOwners:
    """Whose a partner system is; that never changes, so an answer is kept for good."""

    def __init__(self, find_owner: Callable[[UUID], Awaitable[UUID | None]]) -> None:
        self._find_owner = find_owner
        self._owners: dict[UUID, UUID] = {}

    async def require_visible(self, partner_system_id: UUID, partner_id: UUID | None) -> None:
        """Raises NotFound unless `partner_id` owns the system: the same answer for another's system and for none.

        Who sees all partners is not asked: a system of a second ago, not copied yet, has no events for them, not a 404.
        """
        if partner_id is None:
            return
        owner = self._owners.get(partner_system_id)
        if owner is None:
            owner = await self._find_owner(partner_system_id)
            if owner is not None:
                if len(self._owners) >= _MAX_SYSTEMS:
                    self._owners.clear()
                self._owners[partner_system_id] = owner
        if owner != partner_id:
            raise NotFound("unknown_partner_system", "There is no such partner system.")


async def find_owner(pool: Pool, partner_system_id: UUID) -> UUID | None:
    """The partner of a system, None if it is not known (yet: the relay copies systems within about a second)."""
    with translate_errors():
        async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
            found: UUID | None = await pool.fetchval(_SELECT_OWNER, partner_system_id)
    return found
