"""Redis: look-ups that may fail without harm, and the invalidations that every process must hear.

Keys are those of the specification. Whatever is cached can be read again from PostgreSQL; so every failure of Redis
here becomes "not found" for readers, and `Unavailable` for those who must know that a write did not arrive.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tracking.contracts import invalidation
from tracking.contracts.invalidation import INVALIDATION_CHANNEL, Invalidation
from tracking.domain.errors import Unavailable

_PING_INTERVAL_S = 0.4
_MAX_SILENCE_S = 1.0
REDIS_ERRORS = (RedisError, OSError, TimeoutError)
_log = logging.getLogger(__name__)


def open_redis(url: str, *, timeout_s: float) -> Redis:
    """Return a client that connects when first used. A command takes about `timeout_s` at most and is not repeated."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        protocol=2,
    )


async def ping_redis(redis: Redis, timeout_s: float = 2) -> None:
    """Raise Unavailable unless Redis answers in time."""
    try:
        async with asyncio.timeout(timeout_s):
            await redis.execute_command("PING")  # type: ignore[no-untyped-call]
    except REDIS_ERRORS as error:
        raise Unavailable("redis_unavailable", f"Redis does not answer: {error or type(error).__name__}") from error


async def publish_invalidation(redis: Redis, message: Invalidation) -> None:
    """Publish an invalidation to every subscribed process. Raises REDIS_ERRORS."""
    await redis.publish(INVALIDATION_CHANNEL, invalidation.encode(message))


class InvalidationListener:
    """Subscribes to `cache:invalidate`.

    `on_message` is called for each invalidation, and `on_gap` after each new subscription, because messages may have
    been missed before it. `is_connected` is False while no invalidation can arrive; a cache must then trust its entries
    for a moment only. `on_connection` is called with each new value of it; at first it is False.
    """

    def __init__(
        self,
        redis: Redis,
        on_message: Callable[[Invalidation], None],
        on_gap: Callable[[], None],
        on_connection: Callable[[bool], None] = lambda is_connected: None,
        *,
        retry_s: float = 0.5,
    ) -> None:
        self._redis = redis
        self._on_message = on_message
        self._on_gap = on_gap
        self._on_connection = on_connection
        self._retry_s = retry_s
        self.is_connected = False

    async def run(self) -> None:
        """Listen until cancelled, connecting again after every failure."""
        while True:
            try:
                await self._listen()
            except REDIS_ERRORS as error:
                if self.is_connected:
                    _log.warning("invalidations are not heard, connecting again: %s", error)
            finally:
                if self.is_connected:
                    # only when it is lost: told after each failed attempt, callers would drop what they load for ever
                    self.is_connected = False
                    self._on_connection(False)
            await asyncio.sleep(self._retry_s)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(INVALIDATION_CHANNEL)
            heard_at = time.monotonic()
            while True:
                message = await pubsub.get_message(timeout=_PING_INTERVAL_S)
                if message is None:
                    # silence may be a broken connection, and an entry cached on its word must not outlive the promise
                    if time.monotonic() - heard_at > _MAX_SILENCE_S:
                        raise TimeoutError("no answer to a ping")
                    await pubsub.ping()
                    continue
                heard_at = time.monotonic()
                if message["type"] == "subscribe":
                    # anything published while nobody listened is lost: start from an empty cache
                    self._on_gap()
                    self.is_connected = True
                    self._on_connection(True)
                elif message["type"] == "message":
                    self._on_message(invalidation.decode(message["data"]))
