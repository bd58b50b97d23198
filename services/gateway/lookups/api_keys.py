"""Authenticates senders by API key: a key is looked up in the process cache, in Redis, then in the write database.

Redis only makes look-ups faster: if it is unavailable, empty or out of date, the database is asked. What is cached,
here or in Redis, is used only while this process knows the changes up to a second ago (tables/credential_changes.py).
If they cannot be read, a request waits for them; its events could not be committed either.

A text that cannot be a key is not looked up. Keys that do not exist are remembered, and looked up many at a time.
"""

import asyncio
import logging
import time
from datetime import datetime
from uuid import UUID

from services.gateway.lookups.key_reader import KeyReader
from tracking.contracts.cache_entries import ApiKeyEntry, make_api_key_cache_key
from tracking.domain.credentials import has_api_key_shape
from tracking.domain.errors import Forbidden, TrackingError, Unauthenticated, Unavailable
from tracking.infra import metrics, postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.credential_cache import CredentialCache, hash_secret
from tracking.tables.credential_changes import CredentialChanges

_log = logging.getLogger(__name__)
_REDIS_TTL_S = 3600
_MAX_ENTRIES = 50_000
_LAST_USED_INTERVAL_S = 60.0

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
       p.is_active as is_partner_active,
       (select coalesce(max(generation), 0) from write.credential_changes) as generation
  from write.api_keys k
  join write.partner_systems s on s.id = k.partner_system_id
  join write.partners p on p.id = s.partner_id
 where k.key_sha256 = any($1::bytea[])
"""

_UPDATE_LAST_USED = """
update write.api_keys as k
   set last_used_at = used.at
  from unnest($1::uuid[], $2::timestamptz[]) as used (id, at)
 where k.id = used.id
"""


class ApiKeyLookup:
    """Authenticates requests by their API key, from a cache where possible."""

    def __init__(
        self, redis: CacheAside, pool: postgres.Pool, changes: CredentialChanges, *, ttl_s: float, wait_s: float
    ) -> None:
        """A request waits for `wait_s` at most until it is known what has changed."""
        self._redis = redis
        self._pool = pool
        self._changes = changes
        self._wait_s = wait_s
        self._cache = CredentialCache(self._look_up, ttl_s=ttl_s, max_entries=_MAX_ENTRIES)
        self._reader = KeyReader(self._read_many)
        self._familiar: set[str] = set()
        changes.add_listener(self._cache.invalidate)
        self._entries = self._cache.entries
        self._used: dict[UUID, datetime] = {}

    def authenticate_cached(self, key: str | None, now: datetime) -> ApiKeyEntry | None:
        """Authenticate as `authenticate` does, but only from the process cache; None if the key must be looked up."""
        if not key:
            raise Unauthenticated("missing_api_key", "No API key: send X-Api-Key, Authorization, ?apiKey= or apiKey.")
        cached = self._entries.get(hash_secret(key))
        now_s = time.monotonic()
        if cached is None or cached[1] <= now_s or self._changes.trusted_until <= now_s:
            return None
        return self._require_usable(cached[0], now)

    def find_cached(self, key: str | None, now: datetime) -> ApiKeyEntry | None:
        """Return the usable system of `key` if it is in the process cache."""
        try:
            return self.authenticate_cached(key, now)
        except TrackingError:
            return None

    async def authenticate(self, key: str | None, now: datetime) -> ApiKeyEntry:
        """Return the system of `key`.

        Raises Unauthenticated (missing, unknown, revoked, expired), Forbidden (system or partner deactivated),
        Unavailable (the key must be read from the write database, which is unavailable).
        """
        known = self.authenticate_cached(key, now)
        if known is not None:
            return known
        if key is None or not has_api_key_shape(key):
            raise Unauthenticated("unknown_api_key", "This API key is not known.")
        await self._changes.wait_until_current(self._wait_s)
        return self._require_usable(await self._cache.get(hash_secret(key)), now)

    def _require_usable(self, entry: ApiKeyEntry | None, now: datetime) -> ApiKeyEntry:
        if entry is None:
            raise Unauthenticated("unknown_api_key", "This API key is not known.")
        if entry.revoked_at is not None:  # for good, whatever the clock of this process says
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
        """Drop the entry of one key, or all entries."""
        self._cache.invalidate(None if digest is None else (digest,))

    async def run_last_used_updates(self) -> None:
        """Write once a minute when each key was last used, until cancelled. A failed write is repeated later."""
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

    async def _look_up(self, digest: str) -> ApiKeyEntry | None:
        entry = await self._reader.read(digest, is_familiar=digest in self._familiar)
        if entry is not None:
            if len(self._familiar) >= _MAX_ENTRIES:
                self._familiar.clear()
            self._familiar.add(digest)
        return entry

    async def _read_many(self, digests: list[str]) -> dict[str, ApiKeyEntry]:
        found: dict[str, ApiKeyEntry] = {}
        cached = await self._redis.get_many([make_api_key_cache_key(digest) for digest in digests])
        for digest, data in zip(digests, cached, strict=True):
            entry = ApiKeyEntry.decode(data) if data is not None else None
            if entry is not None and self._changes.is_current(entry.generation, (digest, *entry.owner_ids)):
                metrics.cache_lookups.labels("api_key", "redis").inc()
                found[digest] = entry
        missing = [digest for digest in digests if digest not in found]
        if missing:
            read = await self._from_database(missing)
            # They may replace newer entries, and nobody trusts them wrongly: their generation says how old they are.
            values = {make_api_key_cache_key(digest): entry.encode() for digest, entry in read.items()}
            await self._redis.put_many(values, _REDIS_TTL_S)
            found |= read
        return found

    async def _from_database(self, digests: list[str]) -> dict[str, ApiKeyEntry]:
        try:
            rows = await self._pool.fetch(_SELECT_KEYS, [bytes.fromhex(digest) for digest in digests])
        except postgres.POSTGRES_ERRORS as error:
            raise Unavailable("database_unavailable", "The API key cannot be checked now; try again.", 2) from error
        metrics.cache_lookups.labels("api_key", "database").inc(len(digests))
        found: dict[str, ApiKeyEntry] = {}
        for row in rows:
            values = dict(row)
            digest = values.pop("key_sha256").hex()
            found[digest] = ApiKeyEntry.from_row(values)
        return found
