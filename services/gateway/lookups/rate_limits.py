"""Limits the events a second of each system, over all its keys and all gateways.

Each system has one token bucket in Redis. A gateway leases tokens from it for a fiftieth of a second at a time, so that
nearly no request waits for Redis and the total stays within a few hundredths of the limit. Without Redis each gateway
uses a local bucket for each system. More events than the limit allows may then pass in total, but no request is
rejected because Redis is unavailable.
"""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import UUID

from redis.asyncio import Redis

from tracking.domain.errors import TooManyRequests
from tracking.domain.system_settings import SystemSettings
from tracking.infra import metrics
from tracking.infra.circuit_breaker import CircuitBreaker
from tracking.infra.redis import REDIS_ERRORS

_LEASES_A_SECOND = 50
_MAX_SYSTEMS = 10_000

# KEYS[1] bucket; ARGV: tokens a second, burst, tokens needed, tokens wanted. Answers with the tokens granted, those
# left, and the ms until the needed ones are there. What needs more than a full bucket waits for that, and is owed.
_LEASE = """
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + now[2] / 1000
local rate, burst, need, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(known[1]) or burst, tonumber(known[2]) or now_ms
tokens = math.min(burst, tokens + math.max(0, now_ms - at) * rate / 1000)
local granted, wait_ms = 0, 0
local enough = math.min(need, burst)
if tokens >= enough then
  granted = math.max(need, math.floor(math.min(want, tokens)))
  tokens = tokens - granted
else
  wait_ms = math.ceil((enough - tokens) * 1000 / rate)
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', tostring(now_ms))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) * 1000 / rate) + 1000)
return {granted, math.floor(tokens), wait_ms}
"""


@dataclass(slots=True)
class _Bucket:
    """The tokens that this gateway has leased for a system, and the local bucket that is used without Redis."""

    tokens: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Until this time no request that needs as many tokens can pass, so Redis is not asked.
    empty_until: float = 0.0
    empty_for: int = 0
    # The tokens of the local bucket.
    local_tokens: float | None = None
    local_at: float = 0.0


class RateLimiter:
    """Limits systems:

    `try_acquire` uses leased tokens, `acquire` may lease more; systems without a limit always pass.
    """

    def __init__(self, redis: Redis) -> None:
        self._lease = redis.register_script(_LEASE)
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()
        self._breaker = CircuitBreaker("Redis does not answer, each gateway limits rates by itself")

    def try_acquire(self, system_id: UUID, settings: SystemSettings, events: int) -> bool:
        """Return whether these events may pass with the tokens that are leased already."""
        if settings.rate_limit_events_per_second is None:
            return True
        bucket = self._buckets.get(system_id)
        if bucket is None or bucket.tokens < events:
            return False
        bucket.tokens -= events
        return True

    async def acquire(self, system_id: UUID, settings: SystemSettings, events: int) -> None:
        """Let these events pass, or raise TooManyRequests with the time after which to try again."""
        if self.try_acquire(system_id, settings, events):
            return
        bucket = self._bucket(system_id)
        async with bucket.lock:
            # Another request may have leased enough for both meanwhile.
            if not self.try_acquire(system_id, settings, events):
                await self._lease_more(system_id, settings, bucket, events)

    async def _lease_more(self, system_id: UUID, settings: SystemSettings, bucket: _Bucket, events: int) -> None:
        rate, burst = settings.rate_limit_events_per_second or 0, settings.rate_limit_burst or 0
        now = time.monotonic()
        if now < bucket.empty_until and events >= bucket.empty_for:
            raise self._too_many(rate, 0, bucket.empty_until - now, events)
        need = events - int(bucket.tokens)
        if not self._breaker.is_open:
            try:
                granted, left, wait_ms = await self._lease(
                    keys=[f"rate_limit:{system_id}"], args=[rate, burst, need, max(need, rate // _LEASES_A_SECOND)]
                )
            except REDIS_ERRORS as error:
                self._breaker.record_failure(error)
            else:
                bucket.local_tokens = None
                if granted >= need:
                    bucket.tokens += granted - events
                    return
                bucket.empty_until, bucket.empty_for = now + wait_ms / 1000, events
                raise self._too_many(rate, left, wait_ms / 1000, events)
        self._take_locally(bucket, rate, burst, events, now)

    def _take_locally(self, bucket: _Bucket, rate: int, burst: int, events: int, now: float) -> None:
        known = burst if bucket.local_tokens is None else bucket.local_tokens + (now - bucket.local_at) * rate
        tokens = min(float(burst), known)
        bucket.local_at = now
        enough = min(events, burst)
        if tokens < enough:
            bucket.local_tokens = tokens
            raise self._too_many(rate, int(tokens), (enough - tokens) / rate, events)
        bucket.local_tokens = tokens - events

    def _too_many(self, rate: int, left: int, wait_s: float, events: int) -> TooManyRequests:
        metrics.rate_limited.inc(events)
        return TooManyRequests(
            "rate_limited",
            f"This system may send {rate} events a second; come back later with the same events.",
            retry_after_s=max(1, math.ceil(wait_s)),
            limit=rate,
            remaining=max(0, left),
        )

    def _bucket(self, system_id: UUID) -> _Bucket:
        bucket = self._buckets.get(system_id)
        if bucket is None:
            if len(self._buckets) >= _MAX_SYSTEMS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[system_id] = _Bucket()
        return bucket
