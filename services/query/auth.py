"""Authenticates access tokens, and says which partner's data a request may see.

A token is looked up in the memory of the process, in Redis, then in the write database. What is cached is used only
while this process knows the changes of the last second (tables/credential_changes.py). While the write database cannot
be asked, queries go on: tokens then come from the read database, to which the relay replicates them about once a
second, and are kept in memory for a second at most. Redis is not asked then.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from uuid import UUID

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.query.database import translate_errors
from tracking.contracts.cache_entries import AccessTokenEntry, make_access_token_cache_key
from tracking.domain.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from tracking.infra import metrics, postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.credential_cache import CredentialCache, hash_secret
from tracking.infra.postgres import Pool
from tracking.tables.credential_changes import CredentialChanges

_SELECT_OWNER = """
select partner_id
  from read.partner_systems
 where id = $1
"""

_MAX_ENTRIES = 10_000
_REDIS_TTL_S = 3600
_MAX_SYSTEMS = 50_000
_MAX_TOKEN_CHARACTERS = 500
# the wait for a connection included
_LOOK_UP_TIMEOUT_S = 10.0
# Of the write database, which queries can do without.
_REGISTRY_TIMEOUT_S = 2.0
# Longer than one reading of the changes may take.
_WAIT_S = 1.2
_REPLICATED_TTL_S = 1.0

_SELECT_TOKEN = """
select t.scope,
       t.partner_id,
       t.expires_at,
       t.revoked_at,
       coalesce(p.is_active, true) as is_partner_active,
       (select coalesce(max(generation), 0) from write.credential_changes) as generation
  from write.access_tokens t
  left join write.partners p on p.id = t.partner_id
 where t.token_sha256 = $1
"""

_SELECT_REPLICATED_TOKEN = """
select scope,
       partner_id,
       expires_at,
       revoked_at
  from read.access_tokens
 where token_sha256 = $1
"""


class AccessTokenLookup:
    """Authenticates requests."""

    def __init__(
        self, redis: CacheAside, write: postgres.Pool, read: postgres.Pool, changes: CredentialChanges, *, ttl_s: float
    ) -> None:
        self._redis = redis
        self._write = write
        self._read = read
        self._changes = changes
        self._cache = CredentialCache(self._look_up, ttl_s=ttl_s, max_entries=_MAX_ENTRIES)
        self._replicated = CredentialCache(
            self._from_read_database, ttl_s=min(ttl_s, _REPLICATED_TTL_S), max_entries=_MAX_ENTRIES
        )
        changes.add_listener(self._cache.invalidate)

    async def authenticate(self, authorization: str | None, now: datetime) -> AccessTokenEntry:
        """The token of an `Authorization: Bearer …` header.

        Raises Unauthenticated (missing, unknown, revoked, expired), Forbidden (its partner is deactivated) and
        Unavailable (neither database answers).
        """
        token = parse_bearer_token(authorization)
        entry = None
        if len(token) <= _MAX_TOKEN_CHARACTERS:
            entry = await self._find(hash_secret(token))
        if entry is None or entry.scope not in ("admin", "read"):
            raise Unauthenticated("unknown_token", "This access token is not known.")
        if entry.revoked_at is not None:  # for good, whatever the clock of this process says
            raise Unauthenticated("revoked_token", "This access token was revoked.")
        if entry.expires_at is not None and entry.expires_at <= now:
            raise Unauthenticated("expired_token", "This access token has expired.")
        if not entry.is_partner_active:
            raise Forbidden("partner_deactivated", "The partner of this access token is deactivated.")
        return entry

    def invalidate(self, digest: str | None = None) -> None:
        """Drop one token's entry, or all."""
        for cache in (self._cache, self._replicated):
            cache.invalidate(None if digest is None else (digest,))

    async def _find(self, digest: str) -> AccessTokenEntry | None:
        try:
            await self._changes.wait_until_current(0 if self._changes.is_away else _WAIT_S)
            return await self._cache.get(digest)
        except Unavailable:
            return await self._replicated.get(digest)

    async def _look_up(self, digest: str) -> AccessTokenEntry | None:
        key = make_access_token_cache_key(digest)
        data = await self._redis.get(key)
        entry = AccessTokenEntry.decode(data) if data is not None else None
        if entry is not None and self._changes.is_current(entry.generation, (digest, *entry.owner_ids)):
            metrics.cache_lookups.labels("access_token", "redis").inc()
            return entry
        try:
            async with asyncio.timeout(_REGISTRY_TIMEOUT_S):
                row = await self._write.fetchrow(_SELECT_TOKEN, bytes.fromhex(digest))
        except postgres.POSTGRES_ERRORS as error:
            raise Unavailable("database_unavailable", "The write database does not answer.") from error
        metrics.cache_lookups.labels("access_token", "write_database").inc()
        if row is None:
            return None
        entry = AccessTokenEntry(**dict(row))
        await self._redis.put(key, entry.encode(), _REDIS_TTL_S)
        return entry

    async def _from_read_database(self, digest: str) -> AccessTokenEntry | None:
        try:
            async with asyncio.timeout(_LOOK_UP_TIMEOUT_S):
                row = await self._read.fetchrow(_SELECT_REPLICATED_TOKEN, bytes.fromhex(digest))
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
