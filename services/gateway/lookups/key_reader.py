"""Reads many keys with one statement, so that made-up keys cannot take the connections that valid keys need.

At most one reading is under way. Those who ask meanwhile share the next one: first the keys that were good before, then
the new ones, of which only so many may wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import Unavailable

_MAX_KEYS_PER_READING = 200
_MAX_NEW_KEYS = 2_000

ReadMany = Callable[[list[str]], Awaitable[Mapping[str, ApiKeyEntry]]]


class KeyReader:
    """`read_many` returns the entries of those keys that exist, by the hash of the key."""

    def __init__(self, read_many: ReadMany) -> None:
        self._read_many = read_many
        self._familiar: dict[str, asyncio.Future[ApiKeyEntry | None]] = {}
        self._new: dict[str, asyncio.Future[ApiKeyEntry | None]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def read(self, digest: str, *, is_familiar: bool) -> ApiKeyEntry | None:
        """Return the entry of a key, None if there is none. Raises what `read_many` raises, and Unavailable."""
        waiting = self._familiar if is_familiar else self._new
        future = waiting.get(digest)
        if future is None:
            if len(waiting) >= _MAX_NEW_KEYS and not is_familiar:
                raise Unavailable("overloaded", "Too many new keys are being looked up; try again.", 1)
            future = waiting[digest] = asyncio.get_running_loop().create_future()
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read_all())
        return await asyncio.shield(future)

    async def _read_all(self) -> None:
        while self._familiar or self._new:
            group = _take(self._familiar, _MAX_KEYS_PER_READING)
            group |= _take(self._new, _MAX_KEYS_PER_READING - len(group))
            try:
                found = await self._read_many(list(group))
            except Exception as error:
                for future in group.values():
                    future.set_exception(error)
                    future.exception()  # one that nobody waits for any more is not reported as forgotten
                continue
            for digest, future in group.items():
                future.set_result(found.get(digest))


def _take(
    waiting: dict[str, asyncio.Future[ApiKeyEntry | None]], most: int
) -> dict[str, asyncio.Future[ApiKeyEntry | None]]:
    return {digest: waiting.pop(digest) for digest in list(waiting)[:most]}
