"""Credentials in the memory of a process: API keys of the gateway, access tokens of query.

An invalidation of anything makes a look-up in progress start again, because it may have read the old state. Concurrent
look-ups of one credential share a single flight. Whether an entry may still be used is the caller's business.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from hashlib import sha256
from typing import Generic, Protocol, TypeVar
from uuid import UUID


class Credential(Protocol):
    """An entry that also changes when one of its owners does."""

    @property
    def owner_ids(self) -> Collection[UUID]: ...


Entry = TypeVar("Entry", bound=Credential)


def hash_secret(secret: str) -> str:
    """Return the SHA-256 of a secret in hexadecimal. Secrets themselves are neither cached nor sent to Redis."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


class CredentialCache(Generic[Entry]):
    """Bounded cache of the entries that `look_up` finds, by the hash of the secret.

    Hashes that are not found are kept apart, so that made-up secrets push no entry out.
    """

    def __init__(self, look_up: Callable[[str], Awaitable[Entry | None]], *, ttl_s: float, max_entries: int) -> None:
        self._look_up = look_up
        self._ttl_s = ttl_s
        self._max_entries = max_entries
        self._loading: dict[str, asyncio.Task[Entry | None]] = {}
        self._invalidations = 0
        # `{hash: (entry, when it expires by time.monotonic)}`, for callers that cannot afford a call for each request;
        # they only read it, and it stays the same dictionary.
        self.entries: dict[str, tuple[Entry, float]] = {}
        self.unknown: dict[str, float] = {}

    async def get(self, digest: str) -> Entry | None:
        """Return the entry from memory, or from a look-up that concurrent callers share.

        Raises what `look_up` raises. A caller that is cancelled does not end the look-up for the others.
        """
        cached = self.entries.get(digest)
        now_s = time.monotonic()
        if cached is not None and cached[1] > now_s:
            return cached[0]
        if self.unknown.get(digest, 0.0) > now_s:
            return None
        task = self._loading.get(digest)
        if task is None:
            task = asyncio.create_task(self._load(digest))
            self._loading[digest] = task
            task.add_done_callback(lambda _: self._loading.pop(digest, None))
        return await asyncio.shield(task)

    def invalidate(self, names: Collection[str | UUID] | None = None) -> None:
        """Drop the entries with these hashes or of these owners; None means all. A look-up in progress is repeated."""
        self._invalidations += 1
        if names is None:
            self.entries.clear()
            self.unknown.clear()
            return
        owners = {name for name in names if isinstance(name, UUID)}
        dropped = {name for name in names if isinstance(name, str)}
        if owners:
            dropped.update(
                digest for digest, (entry, _) in self.entries.items() if not owners.isdisjoint(entry.owner_ids)
            )
        for digest in dropped:
            self.entries.pop(digest, None)
            self.unknown.pop(digest, None)

    async def _load(self, digest: str) -> Entry | None:
        while True:
            invalidations = self._invalidations
            entry = await self._look_up(digest)
            if invalidations != self._invalidations:
                continue
            self._keep(digest, entry)
            return entry

    def _keep(self, digest: str, entry: Entry | None) -> None:
        expires_at = time.monotonic() + self._ttl_s
        if entry is None:
            self.entries.pop(digest, None)
            if len(self.unknown) >= self._max_entries:
                self.unknown.clear()
            self.unknown[digest] = expires_at
            return
        self.unknown.pop(digest, None)
        if len(self.entries) >= self._max_entries:
            self.entries.clear()
        self.entries[digest] = (entry, expires_at)
