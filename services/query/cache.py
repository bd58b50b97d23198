"""Caches the statistics of a range for as long as nothing in the range changes."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from services.query import actors, freshness, statistics
from services.query.events import CountsByName
from services.query.time_range import TimeRange
from tracking.infra import metrics
from tracking.infra.cache_aside import CacheAside
from tracking.infra.postgres import Pool

# A range that includes the present changes with nearly every event. Its entry lives 5 seconds, long enough to serve
# requests that arrive together.
_LIVE_TTL_S = 5


@dataclass(frozen=True, slots=True)
class StatisticsResult:
    """Statistics of a range, with the counts by event name."""

    counts: CountsByName
    is_cached: bool


@dataclass(frozen=True, slots=True)
class ActorCount:
    """The number of actors of a range."""

    number: int
    is_cached: bool


class StatisticsCache:
    """Reads statistics from Redis under the specification's key, otherwise from the read database.

    An entry contains the version that its range had when it was counted, and is used only while the range still has
    that version. It cannot be stale, however long it is kept.
    """

    def __init__(self, redis: CacheAside, pool: Pool, *, ttl_s: int) -> None:
        self._redis = redis
        self._pool = pool
        self._ttl_s = ttl_s

    async def count_actors(
        self, system_id: UUID, within: TimeRange, now: datetime, *, includes_bots: bool, merged: bool
    ) -> ActorCount:
        """Return the number of actors of the range's events. Raises Unavailable."""
        shown_range = format_timestamp(within.start), format_timestamp(within.end)
        key = make_actors_cache_key(system_id, *shown_range, includes_bots=includes_bots, merged=merged)
        entry = _decode_actors(await self._redis.get(key))
        if entry is not None and entry[1] == await actors.version(self._pool, system_id, within, merged=merged):
            metrics.cache_lookups.labels("actors", "redis").inc()
            return ActorCount(entry[0], is_cached=True)
        metrics.cache_lookups.labels("actors", "database").inc()
        number, version = await actors.count_actors_with_version(
            self._pool, system_id, within, includes_bots=includes_bots, merged=merged
        )
        await self._redis.put(key, orjson.dumps({"version": version, "actors": number}), self._life_s(within, now))
        return ActorCount(number, is_cached=False)

    def _life_s(self, within: TimeRange, now: datetime) -> int:
        return self._ttl_s if within.end < now else min(self._ttl_s, _LIVE_TTL_S)

    async def get_statistics(self, system_id: UUID, within: TimeRange, now: datetime) -> StatisticsResult:
        """Return the statistics of the range. Raises Unavailable."""
        key = make_statistics_cache_key(system_id, format_timestamp(within.start), format_timestamp(within.end))
        entry = _decode(await self._redis.get(key))
        if entry is not None and entry[1] == await freshness.read_range_version(self._pool, system_id, within):
            metrics.cache_lookups.labels("statistics", "redis").inc()
            return StatisticsResult(entry[0], is_cached=True)
        metrics.cache_lookups.labels("statistics", "database").inc()
        counts, version = await statistics.count_by_name_with_version(self._pool, system_id, within)
        entry_bytes = orjson.dumps({"version": version, "counts": counts})
        await self._redis.put(key, entry_bytes, self._life_s(within, now))
        return StatisticsResult(counts, is_cached=False)


def format_timestamp(at: datetime) -> str:
    """Format a time with Z, and with microseconds only if there are any."""
    return at.replace(tzinfo=None).isoformat() + "Z"


def _decode(data: bytes | None) -> tuple[CountsByName, int] | None:
    if data is None:
        return None
    try:
        entry = orjson.loads(data)
        counts: CountsByName = {}
        for name, (valid, invalid, bots_valid, bots_invalid) in entry["counts"].items():
            counts[str(name)] = (int(valid), int(invalid), int(bots_valid), int(bots_invalid))
        return counts, int(entry["version"])
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return None


def _decode_actors(data: bytes | None) -> tuple[int, list[int]] | None:
    if data is None:
        return None
    try:
        entry = orjson.loads(data)
        return int(entry["actors"]), [int(number) for number in entry["version"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def make_statistics_cache_key(system_id: object, start: str, end: str) -> str:
    """Make the key of a response of the statistics endpoint."""
    return f"stats:{system_id}:{start}:{end}"


def make_actors_cache_key(system_id: object, start: str, end: str, *, includes_bots: bool, merged: bool) -> str:
    """Make the key of the number of actors in such a response."""
    kinds = (":bots" if includes_bots else "") + (":merged" if merged else "")
    return f"{make_statistics_cache_key(system_id, start, end)}:actors{kinds}"
