"""Who asks, and what they may see: bearer tokens, and whose a partner system is.

A token is looked up in the process cache, then Redis, then the read database, where the relay copies it within about a
second. A revocation reaches this process by `cache:invalidate`. Redis is never filled from here: the copy may be older
than what admin has written there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from hashlib import sha256
from uuid import UUID

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.query.database import translate_errors
from tracking.contracts import cache_entries
from tracking.contracts.cache_entries import AccessTokenEntry
from tracking.domain.errors import NotFound, Unauthenticated, Unavailable
from tracking.infra import metrics, postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.postgres import Pool

_SELECT_OWNER = """
select partner_id
  from read.partner_systems
 where id = $1
"""

# of a token that is not known, and of any token while nobody would tell us of its end
_UNSUBSCRIBED_TTL_S = 1.0
_MAX_ENTRIES = 10_000
_MAX_SYSTEMS = 50_000
_MAX_TOKEN_CHARACTERS = 500

_SELECT_TOKEN = """
select id as token_id,
       scope,
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
        self._ttl_s = ttl_s
        self._entries: dict[str, tuple[AccessTokenEntry | None, float]] = {}
        self._loading: dict[str, asyncio.Task[AccessTokenEntry | None]] = {}
        self._generation = 0

    async def authenticate(self, authorization: str | None, now: datetime) -> AccessTokenEntry:
        """The token of an `Authorization: Bearer …` header.

        Raises Unauthenticated (missing, unknown, revoked, expired) and Unavailable (only the database could tell).
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("missing_token", "No access token: send Authorization: Bearer <token>.")
        entry = None
        if len(token) <= _MAX_TOKEN_CHARACTERS:
            digest = sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
            cached = self._entries.get(digest)
            is_fresh = cached is not None and cached[1] > time.monotonic()
            entry = cached[0] if cached is not None and is_fresh else await self._load(digest)
        if entry is None or entry.scope not in ("admin", "read"):
            raise Unauthenticated("unknown_token", "This access token is not known.")
        if entry.revoked_at is not None:  # for good, whatever our clock says
            raise Unauthenticated("revoked_token", "This access token was revoked.")
        if entry.expires_at is not None and entry.expires_at <= now:
            raise Unauthenticated("expired_token", "This access token has expired.")
        return entry

    def invalidate(self, digest: str | None = None) -> None:
        """Drop one token's entry, or all; what is being loaded meanwhile is looked up again."""
        self._generation += 1
        if digest is None:
            self._entries.clear()
        else:
            self._entries.pop(digest, None)

    async def _load(self, digest: str) -> AccessTokenEntry | None:
        """One look-up at a time for each token, shared by all who wait for it."""
        task = self._loading.get(digest)
        if task is None:
            task = asyncio.create_task(self._look_up(digest))
            self._loading[digest] = task
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        return await asyncio.shield(task)

    async def _look_up(self, digest: str) -> AccessTokenEntry | None:
        while True:
            generation = self._generation
            data = await self._redis.get(cache_entries.make_access_token_cache_key(digest))
            entry = AccessTokenEntry.decode(data) if data is not None else None
            if entry is None:
                entry = await self._from_database(digest)
            if generation != self._generation:
                continue  # an invalidation came by; what we saw may be from before it
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            is_sure = entry is not None and self._redis.is_subscribed
            ttl_s = self._ttl_s if is_sure else min(self._ttl_s, _UNSUBSCRIBED_TTL_S)
            self._entries[digest] = (entry, time.monotonic() + ttl_s)
            return entry

    async def _from_database(self, digest: str) -> AccessTokenEntry | None:
        try:
            row = await self._pool.fetchrow(_SELECT_TOKEN, bytes.fromhex(digest))
        except postgres.TRANSIENT_ERRORS as error:
            raise Unavailable(
                "database_unavailable", "The access token cannot be checked now; try again.", 2
            ) from error
        metrics.cache_lookups.labels("access_token", "database").inc()
        return None if row is None else AccessTokenEntry(**dict(row))


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

    async def require_visible(self, system_id: UUID, partner_id: UUID | None) -> None:
        """Raises NotFound unless `partner_id` owns the system: the same answer for another's system and for none.

        Who sees all partners is not asked: a system of a second ago, not copied yet, has no events for them, not a 404.
        """
        if partner_id is None:
            return
        owner = self._owners.get(system_id)
        if owner is None:
            owner = await self._find_owner(system_id)
            if owner is not None:
                if len(self._owners) >= _MAX_SYSTEMS:
                    self._owners.clear()
                self._owners[system_id] = owner
        if owner != partner_id:
            raise NotFound("unknown_partner_system", "There is no such partner system.")


async def find_owner(pool: Pool, system_id: UUID) -> UUID | None:
    """The partner of a system, None if it is not known (yet: the relay copies systems within about a second)."""
    with translate_errors():
        found: UUID | None = await pool.fetchval(_SELECT_OWNER, system_id)
    return found
