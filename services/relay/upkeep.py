"""Changes to partitions and expired rows: one relay at a time makes them, in short transactions.

To create or drop a partition, a lock is needed that nobody gets while a dump, or a long query, holds the table. A
statement that waits for it makes all inserts wait. So the functions of the databases wait for some milliseconds only.
What could not be done is tried again after a pause, then after longer and longer ones.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import asyncpg

from services.relay import leader
from tracking.infra import metrics, postgres
from tracking.infra.postgres import PARTITIONS_LOCK, Connection, Pool
from tracking.tables.partitions import PARTITIONED_TABLES

_log = logging.getLogger(__name__)

_ATTEMPTS = 3
_ATTEMPT_INTERVAL_S = 0.5
_MIN_DELAY_S, _MAX_DELAY_S = 10.0, 600.0
# Below the gateway's commit deadline: rows for the default partition wait while those of a month are moved out of it.
_SET_STATEMENT_TIMEOUT = "set local statement_timeout = '3s'"

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


class NotLeading(Exception):
    """Another relay does the upkeep at this moment, or this one is to stop."""


@dataclass(slots=True)
class _Postponed:
    delay_s: float
    due: float


@dataclass(slots=True)
class Upkeep:
    """Runs statements on both databases; `stopping` ends its pauses."""

    write: Pool
    read: Pool
    stopping: asyncio.Event
    _postponed: dict[tuple[str, str, date], _Postponed] = field(default_factory=dict)

    def get_pool(self, schema: str) -> Pool:
        """Return the pool of the database with this schema."""
        return self.write if schema == "write" else self.read

    async def list_months(self, schema: str, parent: str, *, only_attached: bool = False) -> list[date]:
        """Return the first days of the months that have a table, whether it is attached yet or not."""
        rows = await self.get_pool(schema).fetch(_SELECT_MONTHS, schema, parent)
        return [row["month"] for row in rows if row["is_attached"] or not only_attached]

    async def fetch_value(self, schema: str, statement: str, *arguments: object) -> Any:
        """Run one statement in a transaction of its own, as the one relay that does so. Raises NotLeading."""
        async with self._lead(schema) as connection:
            return await connection.fetchval(statement, *arguments)

    async def fetch_row(self, schema: str, statement: str, *arguments: object) -> Any:
        """As `fetch_value`, for one row."""
        async with self._lead(schema) as connection:
            return await connection.fetchrow(statement, *arguments)

    @asynccontextmanager
    async def _lead(self, schema: str) -> AsyncIterator[Connection]:
        async with self.write.acquire() as leading, leading.transaction():
            if self.stopping.is_set() or not await leader.try_lead(leading, PARTITIONS_LOCK):
                raise NotLeading
            if schema == "write":
                await leading.execute(_SET_STATEMENT_TIMEOUT)
                yield leading
                return
            async with self.read.acquire() as read, read.transaction():
                await read.execute(_SET_STATEMENT_TIMEOUT)
                yield read

    async def try_often(self, schema: str, statement: str, *arguments: object) -> Any:
        """As `fetch_value`, some times if a lock is not free. Raises LockNotAvailableError in the end."""
        for _ in range(_ATTEMPTS - 1):
            with contextlib.suppress(asyncpg.LockNotAvailableError):
                return await self.fetch_value(schema, statement, *arguments)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ATTEMPT_INTERVAL_S):
                    await self.stopping.wait()
        return await self.fetch_value(schema, statement, *arguments)

    async def do_or_postpone(self, schema: str, parent: str, month: date, step: Callable[[], Awaitable[None]]) -> None:
        """Run the step unless it was postponed; postpone it if its lock was not free or its time too short."""
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
        else:
            self._postponed.pop(key, None)
        self.update_metrics()

    def update_metrics(self) -> None:
        """Bring the gauges up to date."""
        for schema in PARTITIONED_TABLES:
            metrics.partitions_waiting.labels(schema).set(sum(key[0] == schema for key in self._postponed))
