"""Who sends: an API key looked up in the process cache, then Redis, then the write database.

Redis only speeds it up: away or empty, the database answers. A change reaches this process by `cache:invalidate`;
while that cannot be heard, nothing is trusted for longer than a second.
"""

import asyncio
import logging
import time
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from redis.asyncio import Redis

from tracking.contracts import cache_entries
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import Forbidden, Unauthenticated, Unavailable
from tracking.infra import metrics, postgres
from tracking.infra.redis import REDIS_ERRORS

_log = logging.getLogger(__name__)
_REDIS_TTL_S = 3600
_UNKNOWN_TTL_S = 1.0
_UNSUBSCRIBED_TTL_S = 1.0
_REDIS_PAUSE_S = 1.0
_MAX_ENTRIES = 50_000
_LAST_USED_INTERVAL_S = 60.0

_SELECT_KEY = """
select k.id as key_id,
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
 where k.key_sha256 = $1
"""

_UPDATE_LAST_USED = """
update write.api_keys as k
   set last_used_at = used.at
  from unnest($1::uuid[], $2::timestamptz[]) as used (id, at)
 where k.id = used.id
"""


class ApiKeyLookup:
    """Authenticates; safe to call for every request."""

    def __init__(self, redis: Redis, pool: postgres.Pool, *, ttl_s: float) -> None:
        self._redis = redis
        self._pool = pool
        self._ttl_s = ttl_s
        self._entries: dict[str, tuple[ApiKeyEntry | None, float]] = {}
        self._loading: dict[str, asyncio.Task[ApiKeyEntry | None]] = {}
        self._generation = 0
        self._redis_paused_until = 0.0
        self._used: dict[UUID, datetime] = {}
        self.is_subscribed = False

    def authenticate_cached(self, key: str | None, now: datetime) -> ApiKeyEntry | None:
        """As `authenticate`, but only from the process cache: None where it must be looked up."""
        if not key:
            raise Unauthenticated("missing_api_key", "No API key: send X-Api-Key, Authorization, ?apiKey= or apiKey.")
        cached = self._entries.get(_digest(key))
        if cached is None or cached[1] <= time.monotonic():
            return None
        return self._require_usable(cached[0], now)

    async def authenticate(self, key: str | None, now: datetime) -> ApiKeyEntry:
        """The system that `key` stands for.

        Raises Unauthenticated (missing, unknown, revoked, expired), Forbidden (system or partner deactivated),
        Unavailable (only the write database could tell, and it is away).
        """
        known = self.authenticate_cached(key, now)
        return known or self._require_usable(await self._load(_digest(key or "")), now)

    def _require_usable(self, entry: ApiKeyEntry | None, now: datetime) -> ApiKeyEntry:
        if entry is None:
            raise Unauthenticated("unknown_api_key", "This API key is not known.")
        if entry.revoked_at is not None and entry.revoked_at <= now:
            raise Unauthenticated("revoked_api_key", "This API key was revoked.")
        if entry.expires_at is not None and entry.expires_at <= now:
            raise Unauthenticated("expired_api_key", "This API key has expired.")
        if not entry.is_partner_active:
            raise Forbidden("partner_deactivated", "The partner of this API key is deactivated.")
        if not entry.is_system_active:
            raise Forbidden("system_deactivated", "The system of this API key is deactivated.")
        self._used[entry.key_id] = now
        return entry

    def invalidate(self, digest: str | None = None) -> None:
        """Drop one key's entry, or all; whatever is being loaded meanwhile is not kept."""
        self._generation += 1
        if digest is None:
            self._entries.clear()
        else:
            self._entries.pop(digest, None)

    async def run_last_used_updates(self) -> None:
        """Write down once a minute when each key was last used, until cancelled; a failure is tried again later."""
        while True:
            await asyncio.sleep(_LAST_USED_INTERVAL_S)
            used, self._used = self._used, {}
            if not used:
                continue
            try:
                await self._pool.execute(_UPDATE_LAST_USED, list(used), list(used.values()))
            except postgres.POSTGRES_ERRORS as error:
                _log.info("last use of keys not written, trying again later: %s", postgres.describe_error(error))
                self._used = used | self._used

    async def _load(self, digest: str) -> ApiKeyEntry | None:
        """One look-up at a time for each key, shared by all who wait for it."""
        task = self._loading.get(digest)
        if task is None:
            task = asyncio.create_task(self._look_up(digest))
            self._loading[digest] = task
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        return await asyncio.shield(task)

    async def _look_up(self, digest: str) -> ApiKeyEntry | None:
        while True:
            generation = self._generation
            entry = await self._from_redis(digest)
            if entry is None:
                entry = await self._from_database(digest)
                if entry is not None:
                    await self._fill_redis(digest, entry)
            if generation != self._generation:
                continue  # an invalidation came by while we looked; what we saw may be from before it
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            ttl_s = _UNKNOWN_TTL_S if entry is None else self._ttl_s if self.is_subscribed else _UNSUBSCRIBED_TTL_S
            self._entries[digest] = (entry, time.monotonic() + ttl_s)
            return entry

    async def _from_redis(self, digest: str) -> ApiKeyEntry | None:
        # while invalidations cannot be heard, Redis may hold what nobody could correct
        if not self.is_subscribed or time.monotonic() < self._redis_paused_until:
            return None
        try:
            data = await self._redis.get(cache_entries.make_api_key_cache_key(digest))
        except REDIS_ERRORS as error:
            self._pause_redis(error)
            return None
        entry = ApiKeyEntry.decode(data) if data is not None else None
        if entry is not None:
            metrics.cache_lookups.labels("api_key", "redis").inc()
        return entry

    async def _fill_redis(self, digest: str, entry: ApiKeyEntry) -> None:
        if not self.is_subscribed or time.monotonic() < self._redis_paused_until:
            return
        try:
            # only if nothing is there: admin writes the newest state itself, and must win over what we read before it
            await self._redis.set(
                cache_entries.make_api_key_cache_key(digest), entry.encode(), ex=_REDIS_TTL_S, nx=True
            )
        except REDIS_ERRORS as error:
            self._pause_redis(error)

    def _pause_redis(self, error: BaseException) -> None:
        self._redis_paused_until = time.monotonic() + _REDIS_PAUSE_S
        _log.warning("Redis does not answer, keys come from the write database: %s", postgres.describe_error(error))

    async def _from_database(self, digest: str) -> ApiKeyEntry | None:
        try:
            row = await self._pool.fetchrow(_SELECT_KEY, bytes.fromhex(digest))
        except postgres.POSTGRES_ERRORS as error:
            raise Unavailable("database_unavailable", "The API key cannot be checked now; try again.", 2) from error
        metrics.cache_lookups.labels("api_key", "database").inc()
        return None if row is None else ApiKeyEntry.from_row(dict(row))


def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
