"""The limits of an answer: how fresh it is, and from when on there are events; the version of a range."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.query.database import translate_errors
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection
from tracking.tables import range_versions, retention
from tracking.tables.retention import Limits

# The consumers whose progress an answer depends on.
_EVENT_CONSUMERS = ("projector",)
_STATISTICS_CONSUMERS = ("projector", "statistics")


async def read_limits(connection: Connection, *, is_raw: bool) -> Limits:
    """The limits of an answer: everything committed before its watermark is in it, but what retention has dropped.

    They must be read before the data of the answer: changes that are applied between the two would otherwise be
    promised and not be there. `is_raw` says that the answer depends on events alone, and not on rollups. Raises
    Unavailable.
    """
    consumers = _EVENT_CONSUMERS if is_raw else _STATISTICS_CONSUMERS
    with translate_errors():
        return await retention.read_limits(connection, consumers)


def limit_to_events(within: TimeRange, limits: Limits) -> TimeRange:
    """The part of the range in which there are events; it ends before it starts if there is none."""
    kept = replace(within, raw_since=limits.raw_since)
    return replace(kept, start=kept.raw_start)


def limit_to_counts(within: TimeRange, limits: Limits) -> TimeRange:
    """The part of the range in which there are counts, and from when on there are events beside them."""
    start = within.start if limits.counts_since is None else max(within.start, limits.counts_since)
    return replace(within, start=start, raw_since=limits.raw_since)


def make_meta(limits: Limits, *, is_raw: bool, is_cached: bool) -> dict[str, Any]:
    """The `meta` of an answer, as the model Meta describes it."""
    as_of = limits.as_of
    lag_s = None if as_of is None else max(0.0, (datetime.now(UTC) - as_of).total_seconds())
    return {
        "asOf": as_of,
        "lagSeconds": None if lag_s is None else round(lag_s, 3),
        "source": "raw" if is_raw else "rollup+raw",
        "cached": is_cached,
        "rawSince": limits.raw_since,
        "countsSince": limits.counts_since,
    }


async def read_range_version(connection: Connection, partner_system_id: UUID, within: TimeRange) -> int:
    """A number that grows with each change to the days of the range. Raises Unavailable."""
    with translate_errors():
        return await range_versions.read_version(connection, partner_system_id, within.start.date(), within.end.date())
