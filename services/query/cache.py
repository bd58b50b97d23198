"""The statistics of a range, from the cache while nothing of the range has changed."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

import orjson

from services.query import actors, freshness, statistics
from services.query.actors import ActorsQuestion
from services.query.budget import Budget, Caller
from services.query.parameters import DEFAULT_NAMES
from services.query.statistics import NameCounts, NamesPage
from services.query.time_range import TimeRange
from tracking.infra import metrics
from tracking.infra.cache_aside import CacheAside
from tracking.infra.postgres import Connection
from tracking.tables.retention import Limits

# A range that includes the present changes with nearly every event. Its entry lives long enough to serve requests that
# arrive together.
_LIVE_TTL_S = 5
# one more than a page shows, so that it is known whether there are more
_KEPT_NAMES = DEFAULT_NAMES + 1


@dataclass(frozen=True, slots=True)
class StatisticsResult:
    """`counts` as statistics.count_by_name returns them, and the limits of freshness.read_limits."""

    counts: NameCounts
    limits: Limits
    is_cached: bool


@dataclass(frozen=True, slots=True)
class ActorCount:
    """How many there are."""

    number: int
    is_cached: bool


class StatisticsCache:
    """Answers from Redis under the specification's key, else from the read database.

    An entry carries the version its range had when it was counted, and is used only while that is still the range's
    version: it cannot be stale, however long it is kept. Redis is asked while no connection is held.
    """

    def __init__(self, redis: CacheAside, budget: Budget, *, ttl_s: int) -> None:
        self._redis = redis
        self._budget = budget
        self._ttl_s = ttl_s

    async def get_statistics(
        self, caller: Caller, partner_system_id: UUID, within: TimeRange, page: NamesPage, now: datetime
    ) -> StatisticsResult:
        """Only the first page of the usual size is kept in Redis. Raises Unavailable and TooCostly."""
        key = make_statistics_cache_key(partner_system_id, within) + (":bots" if page.should_include_bots else "")
        is_kept = page.behind is None and page.limit == _KEPT_NAMES
        entry = _decode(await self._redis.get(key)) if is_kept else None
        for attempt in self._budget.attempts(caller, partial(_count_all, partner_system_id, within)):
            async with attempt as connection:
                limits = await freshness.read_limits(connection, is_raw=False)
                kept = freshness.limit_to_counts(within, limits)
                if entry is not None and entry[1] == _make_version(
                    await freshness.read_range_version(connection, partner_system_id, kept), limits
                ):
                    metrics.cache_lookups.labels("statistics", "redis").inc()
                    return StatisticsResult(entry[0], limits, is_cached=True)
                counts, version = await statistics.count_by_name_with_version(connection, partner_system_id, kept, page)
        metrics.cache_lookups.labels("statistics", "database").inc()
        if is_kept:
            await self._redis.put(key, _encode(counts, _make_version(version, limits)), self._life_s(within, now))
        return StatisticsResult(counts, limits, is_cached=False)

    async def count_actors(
        self,
        caller: Caller,
        asked: ActorsQuestion,
        now: datetime,
        *,
        events_to_read: int | None,
    ) -> ActorCount:
        """How many actors the range's events have; `events_to_read`, if known, is all of these.

        Raises Unavailable and TooCostly.
        """
        if asked.within.start > asked.within.end:
            return ActorCount(0, is_cached=False)
        key = make_actors_cache_key(asked)
        entry = _decode_actors(await self._redis.get(key))
        if entry is not None:
            async with self._budget.connect(caller) as connection:
                if entry[1] == await actors.read_version(connection, asked):
                    metrics.cache_lookups.labels("actors", "redis").inc()
                    return ActorCount(entry[0], is_cached=True)
        count = partial(_count_all, asked.partner_system_id, asked.within)
        for attempt in self._budget.attempts(caller, count, events_to_read=events_to_read):
            async with attempt as connection:
                number, version = await actors.count_actors_with_version(connection, asked)
        metrics.cache_lookups.labels("actors", "database").inc()
        data = orjson.dumps({"version": version, "actors": number})
        await self._redis.put(key, data, self._life_s(asked.within, now))
        return ActorCount(number, is_cached=False)

    def _life_s(self, within: TimeRange, now: datetime) -> int:
        return self._ttl_s if within.end < now else min(self._ttl_s, _LIVE_TTL_S)


async def _count_all(partner_system_id: UUID, within: TimeRange, connection: Connection) -> int:
    return await statistics.count_all(connection, partner_system_id, within)


def format_timestamp(at: datetime) -> str:
    """With Z, and microseconds only where there are any."""
    return at.replace(tzinfo=None).isoformat() + "Z"


def _make_version(version: int, limits: Limits) -> list[str]:
    """The values that must be the same for an entry to be used: the version of the range, and the retention."""
    return [str(version), str(limits.raw_since), str(limits.counts_since)]


def _encode(counts: NameCounts, version: list[str]) -> bytes:
    entry = {"version": version, "kinds": counts.by_kind, "names": counts.names, "page": counts.of_page}
    return orjson.dumps(entry)


def _decode(data: bytes | None) -> tuple[NameCounts, list[str]] | None:
    if data is None:
        return None
    try:
        entry = orjson.loads(data)
        valid, invalid, bots_valid, bots_invalid = map(int, entry["kinds"])
        of_page = [(str(name), int(number)) for name, number in entry["page"]]
        kinds = (valid, invalid, bots_valid, bots_invalid)
        return NameCounts(kinds, int(entry["names"]), of_page), list(entry["version"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _decode_actors(data: bytes | None) -> tuple[int, list[int]] | None:
    if data is None:
        return None
    try:
        entry = orjson.loads(data)
        return int(entry["actors"]), [int(number) for number in entry["version"]]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def make_statistics_cache_key(partner_system_id: UUID, within: TimeRange) -> str:
    """An answer of the statistics endpoint."""
    return f"stats:{partner_system_id}:{format_timestamp(within.start)}:{format_timestamp(within.end)}"


def make_actors_cache_key(asked: ActorsQuestion) -> str:
    """The number of actors beside that answer."""
    kinds = (":bots" if asked.should_include_bots else "") + (":merged" if asked.is_merged else "")
    return f"{make_statistics_cache_key(asked.partner_system_id, asked.within)}:actors{kinds}"
