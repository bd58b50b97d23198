"""`read.consumer_progress`: how far each consumer has applied what was committed."""

from collections.abc import Sequence
from datetime import datetime

from tracking.infra.postgres import Connection, Pool

_SELECT_WATERMARK = """
select case when count(*) = cardinality($1::text[]) then min(applied_through) end
  from read.consumer_progress
 where consumer = any($1::text[])
"""


async def read_watermark(connection: Pool | Connection, consumers: Sequence[str]) -> datetime | None:
    """Everything committed before it has been applied by all of `consumers`; None when that is not known yet.

    Raises what asyncpg raises.
    """
    watermark: datetime | None = await connection.fetchval(_SELECT_WATERMARK, consumers)
    return watermark
