"""A real pg_dump of both databases, which holds its locks while the relay has partitions to create and to drop."""

import asyncio
import shutil
import signal
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import asyncpg

from tests.faults.environment import FaultEnvironment
from tests.support.dead_letters import metric
from tests.support.polling import until
from tracking.tables.partitions import MONTHS_AHEAD, PARTITIONED_TABLES, list_months_around

RETENTION_MONTHS = 12
_COUNT_LOCKS_OF_DUMP = """
select count(*)
  from pg_locks
  join pg_stat_activity using (pid)
 where application_name = 'pg_dump'
   and relation = to_regclass($1)
"""
_IS_ATTACHED = "select exists (select from pg_inherits where inhrelid = to_regclass($1))"


async def dump_during_upkeep(site: FaultEnvironment) -> None:
    """Dump slowly; AssertionError if a dump fails, or if the relay does not catch up when both have ended."""
    databases = [_Database("write", site.stack.write_url()), _Database("read", site.stack.read_url())]
    await site.pause(0.5, 2)
    site.others.signal("relay", signal.SIGSTOP)
    for database in databases:
        await database.prepare()
    with ExitStack() as running:
        dumps = [running.enter_context(database.start_dump()) for database in databases]
        site.record_break()
        for database in databases:
            await until(database.count_locks_of_dump, bool)
        site.others.signal("relay", signal.SIGCONT)
        for database in databases:
            waiting = f'tracking_partitions_waiting{{database="{database.schema}"}}'
            await _reach(site, waiting)
        await site.pause(4, 7)
        for process in dumps:
            output, _ = await asyncio.to_thread(process.communicate)
            assert process.returncode == 0, "pg_dump failed"
            assert b"-- PostgreSQL database dump complete\n" in output, "pg_dump ended early"
    site.record_repair()
    for database in databases:
        await until(database.is_kept, bool)


async def _reach(site: FaultEnvironment, waiting: str) -> None:
    """Wait until the relay has tried in vain to create and to drop."""
    await until(lambda: metric(site.others, "relay", waiting), lambda number: number > 1)


@dataclass(frozen=True, slots=True)
class _Database:
    schema: str
    url: str

    async def prepare(self) -> None:
        """Leave the relay a month to create and one to drop."""
        for table in PARTITIONED_TABLES[self.schema]:
            await self._ask(f"select {self.schema}.drop_partition($1, $2)", table, _get_coming_month())
            await self._ask(f"select {self.schema}.create_partition($1, $2)", table, _get_expired_month())

    def start_dump(self) -> subprocess.Popen[bytes]:
        """Start pg_dump. It has all its locks before it writes, and then waits until its output is read."""
        program = shutil.which("pg_dump")
        assert program is not None, "pg_dump is missing: apt-get install postgresql-client"
        return subprocess.Popen([program, "--dbname", self.url], stdout=subprocess.PIPE)

    async def count_locks_of_dump(self) -> int:
        """How many locks the dump has on the default partition of events."""
        table = PARTITIONED_TABLES[self.schema][0]
        return int(await self._ask(_COUNT_LOCKS_OF_DUMP, f"{self.schema}.{table}_default"))

    async def is_kept(self) -> bool:
        """Whether the months are as the relay should keep them."""
        found = [
            (
                await self._ask(_IS_ATTACHED, f"{self.schema}.{table}_{_get_coming_month():%Y_%m}"),
                await self._ask(_IS_ATTACHED, f"{self.schema}.{table}_{_get_expired_month():%Y_%m}"),
            )
            for table in PARTITIONED_TABLES[self.schema]
        ]
        return set(found) == {(True, False)}

    async def _ask(self, statement: str, *arguments: object) -> Any:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()


def _get_coming_month() -> date:
    return list_months_around(datetime.now(UTC).date(), 0, MONTHS_AHEAD)[-1]


def _get_expired_month() -> date:
    return list_months_around(datetime.now(UTC).date(), RETENTION_MONTHS + 2, 0)[0]
