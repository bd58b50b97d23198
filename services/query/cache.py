"""The statistics of a range, from the cache while nothing of the range has changed."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from services.query import actors, freshness, statistics
from services.query.statistics import CountsByName
from services.query.time_range import TimeRange
from tracking.infra import metrics
from tracking.infra.cache_aside import CacheAside
from tracking.infra.postgres import Pool

# A range that includes the present changes with nearly every event. Its entry lives long enough to serve requests that
# arrive together.
_LIVE_TTL_S = 5


@dataclass(frozen=True, slots=True)
class StatisticsResult:
    """`counts` as statistics.count_by_name returns them."""

    counts: CountsByName
    is_cached: bool


@dataclass(frozen=True, slots=True)
class ActorCount:
    """How many there are."""

    number: int
    is_cached: bool


class StatisticsCache:
    """Answers from Redis under the specification's key, else from the read database.

    An entry carries the version its range had when it was counted, and is used only while that is still the range's
    version: it cannot be stale, however long it is kept.
    """

    def __init__(self, redis: CacheAside, pool: Pool, *, ttl_s: int) -> None:
        self._redis = redis
        self._pool = pool
        self._ttl_s = ttl_s

    async def count_actors(
        self, partner_system_id: UUID, within: TimeRange, now: datetime, *, should_include_bots: bool, is_merged: bool
    ) -> ActorCount:
        """How many actors the range's events have. Raises Unavailable."""
        shown_range = format_timestamp(within.start), format_timestamp(within.end)
        key = make_actors_cache_key(
            partner_system_id, *shown_range, should_include_bots=should_include_bots, is_merged=is_merged
        )
        entry = _decode_actors(await self._redis.get(key))
        if entry is not None and entry[1] == await actors.read_version(
            self._pool, partner_system_id, within, is_merged=is_merged
        ):
            metrics.cache_lookups.labels("actors", "redis").inc()
            return ActorCount(entry[0], is_cached=True)
        metrics.cache_lookups.labels("actors", "database").inc()
        number, version = await actors.count_actors_with_version(
            self._pool, partner_system_id, within, should_include_bots=should_include_bots, is_merged=is_merged
        )
        await self._redis.put(key, orjson.dumps({"version": version, "actors": number}), self._life_s(within, now))
        return ActorCount(number, is_cached=False)

    def _life_s(self, within: TimeRange, now: datetime) -> int:
        return self._ttl_s if within.end < now else min(self._ttl_s, _LIVE_TTL_S)

    async def get_statistics(self, partner_system_id: UUID, within: TimeRange, now: datetime) -> StatisticsResult:
        """Raises Unavailable."""
        key = make_statistics_cache_key(partner_system_id, format_timestamp(within.start), format_timestamp(within.end))
        entry = _decode(await self._redis.get(key))
        if entry is not None and entry[1] == await freshness.read_range_version(self._pool, partner_system_id, within):
            metrics.cache_lookups.labels("statistics", "redis").inc()
            return StatisticsResult(entry[0], is_cached=True)
        metrics.cache_lookups.labels("statistics", "database").inc()
        counts, version = await statistics.count_by_name_with_version(self._pool, partner_system_id, within)
        entry_bytes = orjson.dumps({"version": version, "counts": counts})
        await self._redis.put(key, entry_bytes, self._life_s(within, now))
        return StatisticsResult(counts, is_cached=False)


def format_timestamp(at: datetime) -> str:
    """With Z, and microseconds only where there are any."""
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


def make_statistics_cache_key(partner_system_id: object, start: str, end: str) -> str:
    """An answer of the statistics endpoint."""
    return f"stats:{partner_system_id}:{start}:{end}"


def make_actors_cache_key(
    partner_system_id: object, start: str, end: str, *, should_include_bots: bool, is_merged: bool
) -> str:
    """The number of actors beside that answer."""
    kinds = (":bots" if should_include_bots else "") + (":merged" if is_merged else "")
    return f"{make_statistics_cache_key(partner_system_id, start, end)}:actors{kinds}"
