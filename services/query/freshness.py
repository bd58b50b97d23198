"""How far behind the read model is: the watermark that every answer names."""

from collections.abc import Sequence
from datetime import datetime

from services.query.database import translate_errors
from tracking.infra.postgres import Pool

# Whose progress an answer depends on.
EVENT_CONSUMERS = ("projector",)
STATISTICS_CONSUMERS = ("projector", "statistics")


_SELECT_WATERMARK = """
select case when count(*) = cardinality($1::text[]) then min(applied_through) end
  from read.consumer_progress
 where consumer = any($1::text[])
"""


async def read_watermark(pool: Pool, consumers: Sequence[str]) -> datetime | None:
    """Everything committed before it has been applied by all of `consumers`; None when that is not known yet."""
    with translate_errors():
        found: datetime | None = await pool.fetchval(_SELECT_WATERMARK, consumers)
    return found
