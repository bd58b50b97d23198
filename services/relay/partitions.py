"""Creates monthly partitions in advance; drops those older than the retention, and old rejected events."""

import logging
from datetime import UTC, date, datetime, timedelta

from tracking.infra import metrics
from tracking.infra.postgres import Pool
from tracking.tables.partitions import MONTHS_AHEAD, PARTITIONED_TABLES, list_months_around
from tracking.tables.rejected_events import delete_rejected_events_older_than

_log = logging.getLogger(__name__)

_CREATE_WRITE = "select write.create_partition($1, $2)"
_CREATE_READ = "select read.create_partition($1, $2)"
_DROP_WRITE = "select write.drop_partition($1, $2)"
_DROP_READ = "select read.drop_partition($1, $2)"
_COUNT_WRITE_DEFAULT = "select count(*) from write.tracking_events_default"
_COUNT_READ_DEFAULT = "select count(*) from read.tracking_events_read_model_default"
_MAX_AGE_OF_REJECTED_EVENTS = timedelta(days=30)
_SELECT_MONTHS = """
select to_date(right(relname, 7), 'YYYY_MM') as month
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1
   and c.relkind = 'r'
   and c.relname ~ ('^' || $2 || '_[0-9]{4}_[0-9]{2}$')
"""


async def maintain_partitions(write: Pool, read: Pool, retention_months: int | None) -> None:
    """Create the partitions of this month and the next three; drop those older than `retention_months`.

    Rejected events are deleted after 30 days. Raises postgres.TRANSIENT_ERRORS.
    """
    today = datetime.now(UTC).date()
    for schema, pool, create in (("write", write, _CREATE_WRITE), ("read", read, _CREATE_READ)):
        for parent in PARTITIONED_TABLES[schema]:
            for month in list_months_around(today, 0, MONTHS_AHEAD):
                if await pool.fetchval(create, parent, month):
                    _log.info("created the partition of %s.%s for %s", schema, parent, month.strftime("%Y-%m"))
    if retention_months is not None:
        oldest = list_months_around(today, retention_months, 0)[0]
        await _drop_before(write, "write", _DROP_WRITE, oldest)
        await _drop_before(read, "read", _DROP_READ, oldest)
    await delete_rejected_events_older_than(write, _MAX_AGE_OF_REJECTED_EVENTS)
    metrics.default_partition_rows.labels("write").set(await write.fetchval(_COUNT_WRITE_DEFAULT))
    metrics.default_partition_rows.labels("read").set(await read.fetchval(_COUNT_READ_DEFAULT))


async def _drop_before(pool: Pool, schema: str, drop: str, oldest: date) -> None:
    for parent in PARTITIONED_TABLES[schema]:
        for row in await pool.fetch(_SELECT_MONTHS, schema, parent):
            if row["month"] < oldest and await pool.fetchval(drop, parent, row["month"]):
                _log.warning("retention dropped %s.%s of %s", schema, parent, row["month"].strftime("%Y-%m"))
