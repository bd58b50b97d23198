"""Cache-aside access to Redis: a Redis that fails counts as a miss, so callers never see an error of it.

After a failure it is not asked again for a moment, so that at most one request in a while waits for its timeout. Keys
and values are the caller's: entries are encoded and decoded there.
"""

from collections.abc import Mapping, Sequence

from redis.asyncio import Redis

from tracking.infra.circuit_breaker import CircuitBreaker
from tracking.infra.redis import REDIS_ERRORS


class CacheAside:
    """Reads and fills Redis, but only while invalidations are received, unless `needs_subscription` is False.

    Without invalidations nobody could correct what a process has cached. It also means that a Redis that is away is
    noticed by the subscription and not by requests. A caller that checks every entry before it uses it needs none.
    """

    def __init__(self, redis: Redis, *, needs_subscription: bool = True) -> None:
        self._redis = redis
        self._needs_subscription = needs_subscription
        self._breaker = CircuitBreaker("Redis does not answer, PostgreSQL is asked instead")
        self.is_subscribed = False

    async def get(self, key: str) -> bytes | None:
        """Return the value of `key`; None also if Redis is not asked or fails."""
        if not self._is_usable():
            return None
        try:
            found = await self._redis.get(key)
        except REDIS_ERRORS as error:
            self._breaker.record_failure(error)
            return None
        return found if isinstance(found, bytes) else None

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key; None for all if Redis is not asked or fails."""
        nothing: list[bytes | None] = [None] * len(keys)
        if not self._is_usable():
            return nothing
        try:
            found = await self._redis.mget(keys)
        except REDIS_ERRORS as error:
            self._breaker.record_failure(error)
            return nothing
        return [value if isinstance(value, bytes) else None for value in found]

    async def put(self, key: str, data: bytes, ttl_s: int) -> None:
        """Keep the value for `ttl_s`, in place of any other."""
        await self._set(key, data, ttl_s, is_fill=False)

    async def put_many(self, values: Mapping[str, bytes], ttl_s: int) -> None:
        """Keep each value under its key for `ttl_s`, in place of any other."""
        if not values or not self._is_usable():
            return
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key, data in values.items():
                    pipeline.set(key, data, ex=ttl_s)
                await pipeline.execute()
        except REDIS_ERRORS as error:
            self._breaker.record_failure(error)

    async def fill(self, key: str, data: bytes, ttl_s: int) -> None:
        """Keep the value for `ttl_s` unless there is one.

        For entries that another process writes when they change: what it has written meanwhile is newer.
        """
        await self._set(key, data, ttl_s, is_fill=True)

    async def _set(self, key: str, data: bytes, ttl_s: int, *, is_fill: bool) -> None:
        if not self._is_usable():
            return
        try:
            await self._redis.set(key, data, ex=ttl_s, nx=is_fill)
        except REDIS_ERRORS as error:
            self._breaker.record_failure(error)

    def _is_usable(self) -> bool:
        return (self.is_subscribed or not self._needs_subscription) and not self._breaker.is_open
