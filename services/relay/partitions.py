"""Creates monthly partitions and drops those beyond the retention, while a dump is running and events are coming in.

Both need a lock that nobody gets while a dump, or a long query, holds the table. A statement that waits for it makes
all inserts wait. So the functions of the database wait for some milliseconds only. What could not be done is tried
again after a pause, then after longer and longer ones. Months are created long before they begin, so there is time.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

from services.relay import leader
from tracking.infra import metrics, postgres
from tracking.infra.postgres import PARTITIONS_LOCK, Connection, Pool
from tracking.tables.partitions import MONTHS_AHEAD, PARTITIONED_TABLES, list_months_around
from tracking.tables.rejected_events import delete_rejected_events_older_than

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
_ATTEMPT_INTERVAL_S = 0.5
_MIN_DELAY_S, _MAX_DELAY_S = 10.0, 600.0
# Below the gateway's commit deadline: rows for the default partition wait while those of a month are moved out of it.
_SET_STATEMENT_TIMEOUT = "set local statement_timeout = '3s'"
_COPIED_ROWS = 20_000
# of a month in a default partition, from which on it gets a partition of its own
_MIN_MOVED_ROWS = 1_000
# No more are created for a default partition, because a sender chooses its times, and each partition costs every query.
_MAX_PARTITIONS = 120
# A default partition with many rows takes long to count. It takes a hundredth of the time at most.
_COUNT_SHARE = 100
_MAX_AGE_OF_REJECTED_EVENTS = timedelta(days=30)

_PREPARE = {"write": "select write.prepare_partition($1, $2, $3)", "read": "select read.prepare_partition($1, $2, $3)"}
_CREATE = {"write": "select write.create_partition($1, $2)", "read": "select read.create_partition($1, $2)"}
_DROP = {"write": "select write.drop_partition($1, $2)", "read": "select read.drop_partition($1, $2)"}

_SELECT_MONTHS = """
select to_date(right(relname, 7), 'YYYY_MM') as month,
       exists (select from pg_catalog.pg_inherits where inhrelid = c.oid) as is_attached
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1
   and c.relkind = 'r'
   and c.relname ~ ('^' || $2 || '_[0-9]{4}_[0-9]{2}$')
 order by month
"""

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


class _NotLeading(Exception):
    """Another relay does the upkeep at this moment, or this one is to stop."""


@dataclass(slots=True)
class _Postponed:
    delay_s: float
    due: float


@dataclass(slots=True)
class PartitionMaintainer:
    """Keeps the partitions of both databases; `stopping` ends its pauses."""

    write: Pool
    read: Pool
    retention_months: int | None
    stopping: asyncio.Event
    _postponed: dict[tuple[str, str, date], _Postponed] = field(default_factory=dict)
    _count_due: dict[str, float] = field(default_factory=dict)

    async def maintain(self) -> bool:
        """Do what is due, unless another relay does it. Raises postgres.TRANSIENT_ERRORS."""
        self._update_metrics()
        with contextlib.suppress(_NotLeading):
            for schema, pool in (("write", self.write), ("read", self.read)):
                await self._create_months(schema, pool)
                await self._empty_default(schema, pool)
            for schema, pool in (("write", self.write), ("read", self.read)):
                await self._drop_months(schema, pool)
            await delete_rejected_events_older_than(self.write, _MAX_AGE_OF_REJECTED_EVENTS)
            self._update_metrics()
        return True

    def _update_metrics(self) -> None:
        for schema in PARTITIONED_TABLES:
            metrics.partitions_waiting.labels(schema).set(sum(key[0] == schema for key in self._postponed))

    async def _create_months(self, schema: str, pool: Pool) -> None:
        wanted = list_months_around(datetime.now(UTC).date(), 0, MONTHS_AHEAD)
        for parent in PARTITIONED_TABLES[schema]:
            known = {row["month"] for row in await pool.fetch(_SELECT_MONTHS, schema, parent) if row["is_attached"]}
            for month in wanted:
                if month not in known:
                    await self._create(schema, parent, month)

    async def _empty_default(self, schema: str, pool: Pool) -> None:
        """Create the partitions of months of which the default partition has many rows, while they are few to move."""
        began = time.monotonic()
        if began < self._count_due.get(schema, 0.0):
            return
        parent, count = _DEFAULTS[schema]
        rows_by_month = {row["month"]: row["rows"] for row in await pool.fetch(count)}
        self._count_due[schema] = began + _COUNT_SHARE * (time.monotonic() - began)
        metrics.default_partition_rows.labels(schema).set(sum(rows_by_month.values()))
        capacity = _MAX_PARTITIONS - len(await pool.fetch(_SELECT_MONTHS, schema, parent))
        crowded = sorted(month for month, rows in rows_by_month.items() if month and rows >= _MIN_MOVED_ROWS)
        for month in crowded[-capacity:] if capacity > 0 else ():
            await self._create(schema, parent, month)

    async def _create(self, schema: str, parent: str, month: date) -> None:
        async def create() -> None:
            while await self._run(schema, _PREPARE[schema], parent, month, _COPIED_ROWS) == _COPIED_ROWS:
                pass
            if await self._try_often(schema, _CREATE[schema], parent, month):
                _log.info("created the partition of %s.%s for %s", schema, parent, month.strftime("%Y-%m"))

        await self._do(schema, parent, month, create)

    async def _drop_months(self, schema: str, pool: Pool) -> None:
        if self.retention_months is None:
            return
        oldest = list_months_around(datetime.now(UTC).date(), self.retention_months, 0)[0]
        for parent in PARTITIONED_TABLES[schema]:
            for row in await pool.fetch(_SELECT_MONTHS, schema, parent):
                if row["month"] < oldest:
                    await self._drop(schema, parent, row["month"])

    async def _drop(self, schema: str, parent: str, month: date) -> None:
        async def drop() -> None:
            if await self._try_often(schema, _DROP[schema], parent, month):
                _log.warning("retention dropped %s.%s of %s", schema, parent, month.strftime("%Y-%m"))

        await self._do(schema, parent, month, drop)

    async def _do(self, schema: str, parent: str, month: date, step: Callable[[], Awaitable[None]]) -> None:
        """Run the step unless it was postponed; postpone it if its lock or its time was too short."""
        key = (schema, parent, month)
        postponed = self._postponed.get(key)
        if postponed is not None and time.monotonic() < postponed.due:
            return
        try:
            await step()
        except (asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError) as error:
            if postponed is None:
                text = postgres.describe_error(error)
                _log.warning("the partition of %s.%s for %s waits: %s", schema, parent, month.strftime("%Y-%m"), text)
            delay_s = min(2 * postponed.delay_s, _MAX_DELAY_S) if postponed else _MIN_DELAY_S
            self._postponed[key] = _Postponed(delay_s, time.monotonic() + delay_s)
            self._update_metrics()
        else:
            self._postponed.pop(key, None)

    async def _try_often(self, schema: str, statement: str, *arguments: object) -> Any:
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                return await self._run(schema, statement, *arguments)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ATTEMPT_INTERVAL_S):
                    await self.stopping.wait()
        return await self._run(schema, statement, *arguments)

    async def _run(self, schema: str, statement: str, *arguments: object) -> Any:
        """Run one statement in a transaction of its own, as the one relay that does so. Raises _NotLeading."""
        async with self.write.acquire() as leading, leading.transaction():
            if self.stopping.is_set() or not await leader.try_lead(leading, PARTITIONS_LOCK):
                raise _NotLeading
            if schema == "write":
                return await _fetch_in_time(leading, statement, *arguments)
            async with self.read.acquire() as read, read.transaction():
                return await _fetch_in_time(read, statement, *arguments)


async def _fetch_in_time(connection: Connection, statement: str, *arguments: object) -> Any:
    await connection.execute(_SET_STATEMENT_TIMEOUT)
    return await connection.fetchval(statement, *arguments)
