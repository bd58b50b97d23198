"""Explains each statement that query runs for a request, to measure how much the request reads.

The service's application runs here, with sessions as its own that explain a statement before they run it; so no
statement and no parameter stands twice, and none can differ from what users cause.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import asyncpg
import httpx

from services.query import auth
from services.query.app import QueryRoutes, create_app
from services.query.auth import AccessTokenLookup, SystemOwners
from services.query.budget import Budget, EventLimits
from services.query.cache import StatisticsCache
from services.query.lanes import Lane, LaneLimits
from tracking.http.health import Health
from tracking.infra import postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import open_redis
from tracking.tables.credential_changes import CredentialChanges

_TABLE = "tracking_events_read_model"
_EXPLAIN = "explain (analyze, buffers, format json) "


@dataclass(frozen=True, slots=True)
class Reading:
    """Of all statements of one request: pages of PostgreSQL touched, and the months of events looked into."""

    buffers: int
    months: frozenset[str]


@dataclass(slots=True)
class Plans:
    """The application under EXPLAIN."""

    client: httpx.AsyncClient
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def reading(self, path: str) -> Reading:
        """Of a request for `path`. AssertionError unless it is answered with 200."""
        self.seen.clear()
        response = await self.client.get(path)
        assert response.status_code == 200, response.text
        nodes = [node for plan in self.seen for node in _nodes(plan)]
        looked_into = {str(node["Relation Name"]) for node in nodes if "Relation Name" in node and node["Actual Loops"]}
        return Reading(
            sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in self.seen),
            frozenset(name.removeprefix(f"{_TABLE}_") for name in looked_into if name.startswith(_TABLE)),
        )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def _explaining(seen: list[dict[str, Any]]) -> type[postgres.DedicatedConnection]:
    class Explaining(postgres.DedicatedConnection):
        async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
            await self._explain(query, args)
            return await super().fetch(query, *args, **options)

        async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
            await self._explain(query, args)
            return await super().fetchrow(query, *args, **options)

        async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
            await self._explain(query, args)
            return await super().fetchval(query, *args, **options)

        async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
            seen.append(json.loads(await super().fetchval(_EXPLAIN + query, *args))[0]["Plan"])

    return Explaining


@asynccontextmanager
async def plans(url: str, token: str) -> AsyncIterator[Plans]:
    """`url` is that of query's own role. Nothing is cached, as no invalidations are heard."""
    seen: list[dict[str, Any]] = []
    pool = await asyncpg.create_pool(
        url,
        connection_class=_explaining(seen),
        min_size=0,
        max_size=1,
        command_timeout=300,
        init=postgres.prepare_connection,
        server_settings={"timezone": "UTC", "statement_timeout": "300s"},
    )
    redis = open_redis("redis://127.0.0.1:1", timeout_s=1)
    beside = CacheAside(redis)
    # one connection and no limit of time: nothing is asked twice
    lane = Lane("heavy", pool, LaneLimits(1, 1, wait_s=300, timeout_s=300), connect_timeout_s=300)
    budget = Budget(lane, lane, EventLimits(cheap=sys.maxsize, most=sys.maxsize))
    query = QueryRoutes(budget, SystemOwners(partial(auth.find_owner, pool)), StatisticsCache(beside, budget, ttl_s=1))
    # nobody reads the changes of credentials, so tokens come from the read database
    changes = CredentialChanges(url, service="test")
    app = create_app(query, AccessTokenLookup(beside, pool, pool, changes, ttl_s=1), Health("query", {}))
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://query", headers=headers, timeout=300
        ) as client:
            yield Plans(client, seen)
    finally:
        await redis.aclose()
        await postgres.close_pool(pool)
