"""Redis as a helper that may be away: whoever asks gets an answer or nothing, never an error, hardly ever a wait."""

import logging
import time

from redis.asyncio import Redis

from tracking.infra.postgres import describe_error
from tracking.infra.redis import REDIS_ERRORS

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0


class CacheAside:
    """Used only while invalidations are heard.

    What nobody could correct is not trusted, and a Redis that is away is noticed by the listener, not by requests.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._paused_until = 0.0
        self.is_subscribed = False

    async def get(self, key: str) -> bytes | None:
        """What is under `key`; None also when Redis is away."""
        if not self._is_usable():
            return None
        try:
            found = await self._redis.get(key)
        except REDIS_ERRORS as error:
            self._pause(error)
            return None
        return found if isinstance(found, bytes) else None

    async def put(self, key: str, data: bytes, ttl_s: int) -> None:
        """Keep it for `ttl_s`, if Redis is there."""
        if not self._is_usable():
            return
        try:
            await self._redis.set(key, data, ex=ttl_s)
        except REDIS_ERRORS as error:
            self._pause(error)

    def _is_usable(self) -> bool:
        return self.is_subscribed and time.monotonic() >= self._paused_until

    def _pause(self, error: BaseException) -> None:
        self._paused_until = time.monotonic() + _PAUSE_S
        _log.warning("Redis does not answer, the read database does: %s", describe_error(error))
