"""How fresh an answer is: the watermark that every answer names, and the version of a range of the read model."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.query.database import translate_errors
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection, Pool
from tracking.tables import consumer_progress, range_versions

# The consumers whose progress an answer depends on.
EVENT_CONSUMERS = ("projector",)
STATISTICS_CONSUMERS = ("projector", "statistics")


async def read_watermark(pool: Pool, consumers: Sequence[str]) -> datetime | None:
    """Everything committed before it has been applied by all of `consumers`; None when that is not known yet.

    Raises Unavailable.
    """
    with translate_errors():
        return await consumer_progress.read_watermark(pool, consumers)


async def read_range_version(connection: Pool | Connection, partner_system_id: UUID, within: TimeRange) -> int:
    """A number that grows with each change to the days of the range. Raises Unavailable."""
    with translate_errors():
        return await range_versions.read_version(connection, partner_system_id, within.start.date(), within.end.date())
