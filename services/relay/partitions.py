"""Creates the partitions of coming months, and of months of which a default partition holds many rows."""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from services.relay.upkeep import Upkeep
from tracking.infra import metrics
from tracking.tables import retention
from tracking.tables.partitions import MONTHS_AHEAD, PARTITIONED_TABLES, list_months_around

_log = logging.getLogger(__name__)

_COPIED_ROWS = 20_000
# of a month in a default partition, from which on it gets a partition of its own
_MIN_MOVED_ROWS = 1_000
# No more are created for a default partition, because a sender chooses its times, and each partition costs every query.
_MAX_PARTITIONS = 120
# A default partition with many rows takes long to count. It takes a hundredth of the time at most.
_COUNT_SHARE = 100

_PREPARE = {"write": "select write.prepare_partition($1, $2, $3)", "read": "select read.prepare_partition($1, $2, $3)"}
_CREATE = {"write": "select write.create_partition($1, $2)", "read": "select read.create_partition($1, $2)"}

# The first 12 hexadecimal digits of an id are its time in milliseconds, between 2000 and 2100.
_COUNT_DEFAULT_WRITE = """
select date_trunc('month', to_timestamp(('x0000' || translate(left(id::text, 13), '-', ''))::bit(64)::bigint / 1000)
           at time zone 'UTC')::date as month,
       count(*) as rows
  from write.tracking_events_default
 group by 1
"""
_COUNT_DEFAULT_READ = """
select case when event_timestamp between '2000-01-01Z' and '2100-01-01Z'
            then date_trunc('month', event_timestamp at time zone 'UTC')::date end as month,
       count(*) as rows
  from read.tracking_events_read_model_default
 group by 1
"""
_DEFAULTS = {
    "write": ("tracking_events", _COUNT_DEFAULT_WRITE),
    "read": ("tracking_events_read_model", _COUNT_DEFAULT_READ),
}


@dataclass(slots=True)
class PartitionMaintainer:
    """Creates partitions in both databases."""

    upkeep: Upkeep
    _count_due: dict[str, float] = field(default_factory=dict)

    async def maintain(self) -> None:
        """Create what is missing. Raises NotLeading and postgres.TRANSIENT_ERRORS."""
        raw_since = await retention.find_raw_since(self.upkeep.write)
        for schema in PARTITIONED_TABLES:
            await self._create_months(schema)
            await self._empty_default(schema, date.min if raw_since is None else raw_since.date())

    async def _create_months(self, schema: str) -> None:
        wanted = list_months_around(datetime.now(UTC).date(), 0, MONTHS_AHEAD)
        for parent in PARTITIONED_TABLES[schema]:
            known = await self.upkeep.list_months(schema, parent, only_attached=True)
            for month in wanted:
                if month not in known:
                    await self._create(schema, parent, month)

    async def _empty_default(self, schema: str, kept_since: date) -> None:
        """Create the partitions of months of which the default partition has many rows, while they are few to move."""
        began = time.monotonic()
        if began < self._count_due.get(schema, 0.0):
            return
        parent, count = _DEFAULTS[schema]
        rows_by_month = {row["month"]: row["rows"] for row in await self.upkeep.get_pool(schema).fetch(count)}
        self._count_due[schema] = began + _COUNT_SHARE * (time.monotonic() - began)
        metrics.default_partition_rows.labels(schema).set(sum(rows_by_month.values()))
        capacity = _MAX_PARTITIONS - len(await self.upkeep.list_months(schema, parent))
        kept = [(month, rows) for month, rows in rows_by_month.items() if month and month >= kept_since]
        crowded = sorted(month for month, rows in kept if rows >= _MIN_MOVED_ROWS)
        for month in crowded[-capacity:] if capacity > 0 else ():
            await self._create(schema, parent, month)

    async def _create(self, schema: str, parent: str, month: date) -> None:
        async def create() -> None:
            while await self._prepare(schema, parent, month) == _COPIED_ROWS:
                pass
            if await self.upkeep.try_often(schema, _CREATE[schema], parent, month):
                _log.info("created the partition of %s.%s for %s", schema, parent, month.strftime("%Y-%m"))

        await self.upkeep.do_or_postpone(schema, parent, month, create)

    async def _prepare(self, schema: str, parent: str, month: date) -> int:
        return int(await self.upkeep.fetch_value(schema, _PREPARE[schema], parent, month, _COPIED_ROWS))
