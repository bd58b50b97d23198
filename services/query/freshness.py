"""How fresh an answer is: the watermark that every answer names, and the version of a range of the read model."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.query.database import translate_errors
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection
from tracking.tables import consumer_progress, range_versions

# The consumers whose progress an answer depends on.
_EVENT_CONSUMERS = ("projector",)
_STATISTICS_CONSUMERS = ("projector", "statistics")


async def read_as_of(connection: Connection, *, is_raw: bool) -> datetime | None:
    """The watermark of an answer: everything committed before it is in the answer; None when that is not known yet.

    It must be read before the data of the answer: changes that are applied between the two would otherwise be promised
    and not be there. `is_raw` says that the answer depends on events alone, and not on rollups. Raises Unavailable.
    """
    consumers = _EVENT_CONSUMERS if is_raw else _STATISTICS_CONSUMERS
    with translate_errors():
        return await consumer_progress.read_watermark(connection, consumers)


def make_meta(as_of: datetime | None, *, is_raw: bool, is_cached: bool) -> dict[str, Any]:
    """The `meta` of an answer, as the model Meta describes it."""
    lag_s = None if as_of is None else max(0.0, (datetime.now(UTC) - as_of).total_seconds())
    return {
        "asOf": as_of,
        "lagSeconds": None if lag_s is None else round(lag_s, 3),
        "source": "raw" if is_raw else "rollup+raw",
        "cached": is_cached,
    }


async def read_range_version(connection: Connection, partner_system_id: UUID, within: TimeRange) -> int:
    """A number that grows with each change to the days of the range. Raises Unavailable."""
    with translate_errors():
        return await range_versions.read_version(connection, partner_system_id, within.start.date(), within.end.date())
