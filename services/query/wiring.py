"""Opens the read database for query: a pool for each lane of questions, and one that no question uses.

The last one is for access tokens, owners of partner systems and readiness, which therefore never wait for a question.
Access tokens are first looked for in the write database.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass

from services.query import SERVICE
from services.query.budget import Budget, EventLimits
from services.query.lanes import Lane, LaneLimits
from tracking.infra import postgres
from tracking.infra.postgres import Pool

# a look-up takes a millisecond
_ACCESS_CONNECTIONS = 4
# Of the write database, which is asked for a token once a second at most, and which queries can do without.
_REGISTRY_CONNECTIONS = 2
_REGISTRY_TIMEOUT_S = 1.0
# A lane ends its questions itself; the limit of the single statement is beyond that.
_STATEMENT_EXTRA_S = 1.0


@dataclass(frozen=True, slots=True)
class ReadDatabase:
    """Where the read database is, and how long to wait for a connection and for a statement."""

    url: str
    connect_timeout_s: float
    query_timeout_s: float


async def open_access_pool(read: ReadDatabase, resources: AsyncExitStack) -> Pool:
    """Open the pool that no question uses."""
    return await _open_pool(read, _ACCESS_CONNECTIONS, read.query_timeout_s, resources)


async def open_registry_pool(url: str, resources: AsyncExitStack) -> Pool:
    """Open the pool of the write database, which has the truth about access tokens."""
    pool = await postgres.open_pool(
        url,
        service=SERVICE,
        connect_timeout_s=_REGISTRY_TIMEOUT_S,
        query_timeout_s=_REGISTRY_TIMEOUT_S,
        size=_REGISTRY_CONNECTIONS,
    )
    resources.push_async_callback(postgres.close_pool, pool)
    return pool


async def open_budget(
    read: ReadDatabase, cheap: LaneLimits, heavy: LaneLimits, events: EventLimits, resources: AsyncExitStack
) -> Budget:
    """Open the pools of both lanes."""

    async def open_lane(name: str, limits: LaneLimits) -> Lane:
        pool = await _open_pool(read, limits.connections, limits.timeout_s + _STATEMENT_EXTRA_S, resources)
        return Lane(name, pool, limits, connect_timeout_s=read.connect_timeout_s)

    return Budget(await open_lane("cheap", cheap), await open_lane("heavy", heavy), events)


async def _open_pool(read: ReadDatabase, size: int, statement_timeout_s: float, resources: AsyncExitStack) -> Pool:
    pool = await postgres.open_pool(
        read.url,
        service=SERVICE,
        connect_timeout_s=read.connect_timeout_s,
        query_timeout_s=statement_timeout_s,
        size=size,
    )
    resources.push_async_callback(postgres.close_pool, pool)
    return pool
