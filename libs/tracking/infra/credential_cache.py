"""Credentials in the memory of a process: API keys of the gateway, access tokens of query.

An invalidation raises the generation of the cache. A look-up that began before it is repeated, because it may have read
the old state. Concurrent look-ups of one credential share a single flight.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Generic, TypeVar

from tracking.infra.cache_aside import CacheAside

# Of an unknown credential, which may be registered at any time, and of all of them while no invalidation can arrive.
_UNSURE_TTL_S = 1.0
Entry = TypeVar("Entry")


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a secret in hexadecimal. Secrets themselves are neither cached nor sent to Redis."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class CredentialCache(Generic[Entry]):
    """Bounded cache of the entries that `look_up` finds, by the hash of the secret; None is kept for unknown ones.

    An entry is kept for `ttl_s` while invalidations arrive at `redis`, and for a second at most otherwise.
    """

    def __init__(
        self, redis: CacheAside, look_up: Callable[[str], Awaitable[Entry | None]], *, ttl_s: float, max_entries: int
    ) -> None:
        self._redis = redis
        self._look_up = look_up
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._loading: dict[str, asyncio.Task[Entry | None]] = {}
        self._generation = 0
        # `{hash: (entry, when it expires by time.monotonic)}`, for callers that cannot afford a call for each request;
        # they only read it, and it stays the same dictionary.
        self.entries: dict[str, tuple[Entry | None, float]] = {}

    async def get(self, digest: str) -> Entry | None:
        """Return the entry from memory, or from a look-up that concurrent callers share.

        Raises what `look_up` raises. A caller that is cancelled does not end the look-up for the others.
        """
        cached = self.entries.get(digest)
        if cached is not None and cached[1] > time.monotonic():
            return cached[0]
        task = self._loading.get(digest)
        if task is None:
            task = asyncio.create_task(self._load(digest))
            self._loading[digest] = task
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        return await asyncio.shield(task)

    def invalidate(self, digest: str | None = None) -> None:
        """Drop the entry of one credential, or all. A look-up in progress is repeated."""
        self._generation += 1
        if digest is None:
            self.entries.clear()
        else:
            self.entries.pop(digest, None)

    async def _load(self, digest: str) -> Entry | None:
        while True:
            generation = self._generation
            entry = await self._look_up(digest)
            if generation != self._generation:
                continue
            if len(self.entries) >= self._max_entries:
                self.entries.clear()
            is_sure = entry is not None and self._redis.is_subscribed
            ttl_s = self._ttl_s if is_sure else min(self._ttl_s, _UNSURE_TTL_S)
            self.entries[digest] = (entry, time.monotonic() + ttl_s)
            return entry
