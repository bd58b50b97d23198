"""Changes of a schema beside running services, which may hold or want the same locks in another order."""

from typing import TYPE_CHECKING

import asyncpg

from tests.support.polling import until

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]  # generic only in its stubs

# shorter than PostgreSQL's deadlock_timeout, so that it is the change that gives way and never a service
_LOCK_TIMEOUT = "set local lock_timeout = '500ms'"
_END_COMMITS = """
select count(pg_terminate_backend(pid))
  from pg_stat_activity
 where application_name = 'tracking-gateway-commit'
   and datname = current_database()
"""


async def change_schema(owner: "Connection", ddl: str) -> None:
    """Run `ddl` whole; again and again while locks are missing.

    `drop trigger` on a partitioned table, say, locks the partitions before the table, and COPY the table before them.
    """

    async def attempt() -> bool:
        try:
            async with owner.transaction():
                await owner.execute(_LOCK_TIMEOUT)
                await owner.execute(ddl)
        except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
            return False
        return True

    await until(attempt, bool)


async def end_commits(owner: "Connection") -> None:
    """Cut the gateways' connections for commits, and wait until the server has ended what they were used for.

    What a gateway has given up at its deadline may still run, and would see or meet the next change of the schema.
    """
    await until(lambda: owner.fetchval(_END_COMMITS), lambda sessions: sessions == 0)
