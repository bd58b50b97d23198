"""A gateway freezes, or its host disappears, in the middle of a commit, and senders repeat its events elsewhere.

The proxy between the gateway and PostgreSQL holds back the next COMMIT, so the break always meets an open transaction.
PostgreSQL has few connections more than the services use, so sessions that stay behind are noticed.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from tests.faults.environment import SPARE_GATEWAY, FaultEnvironment

_TIMES = 3
_COMMIT = b"commit\0"
# what all services open under this load, and a few of the two gateways that are broken off meanwhile
MAX_CONNECTIONS = 40
# as long as TCP's keepalives of the role take; those of a loopback are answered by the kernel, whoever is gone
_KEEPALIVES_S = 3.0
_MAX_COMMIT_SESSIONS = 4
_COUNT_SESSIONS = """
select count(*) filter (where application_name = 'tracking-gateway-commit'), count(*)
  from pg_stat_activity
 where datname is not null
"""


async def freeze(site: FaultEnvironment) -> None:
    """SIGSTOP between COPY and COMMIT, and SIGCONT seconds later."""
    network = site.networks["postgres"]
    async with _counted_sessions(site):
        for _ in range(_TIMES):
            await site.pause(0.5, 2)
            site.record_break()
            await network.hold_at(_COMMIT)
            site.gateways.signal("gateway", signal.SIGSTOP)
            await site.pause(4, 7)
            network.mend()
            site.record_repair()
            site.gateways.signal("gateway", signal.SIGCONT)


async def let_host_disappear(site: FaultEnvironment) -> None:
    """Bytes vanish without a FIN between COPY and COMMIT; the gateway is started again elsewhere."""
    network = site.networks["postgres"]
    async with _counted_sessions(site):
        for _ in range(_TIMES):
            await site.pause(0.5, 2)
            site.record_break()
            await network.hold_at(_COMMIT)
            network.lose()
            await site.gateways.kill("gateway")
            await asyncio.sleep(_KEEPALIVES_S)
            network.end_lost()
            await site.pause(1, 3)
            site.record_repair()
            await site.gateways.start("gateway")


@asynccontextmanager
async def _counted_sessions(site: FaultEnvironment) -> AsyncIterator[None]:
    """Count inside how many connections are used."""
    counting = asyncio.create_task(_count_sessions(site))
    yield
    counting.cancel()
    most_commits, most = await counting
    print(f"at most {most} of {MAX_CONNECTIONS} connections, {most_commits} of gateways' commits")
    if most_commits > 2 * _MAX_COMMIT_SESSIONS:
        site.broken_promises.append(f"{most_commits} sessions of two gateways' commits at once")
    if "too many" in site.others.log(SPARE_GATEWAY):
        site.broken_promises.append("PostgreSQL had too many connections")


async def _count_sessions(site: FaultEnvironment) -> tuple[int, int]:
    """The most sessions of commits, and of all, that were seen until this is cancelled."""
    most_commits = most = 0
    connection = await asyncpg.connect(site.stack.write_url())
    try:
        while True:
            row = await connection.fetchrow(_COUNT_SESSIONS)
            assert row is not None
            most_commits, most = max(most_commits, row[0]), max(most, row[1])
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return most_commits, most
    finally:
        connection.terminate()
