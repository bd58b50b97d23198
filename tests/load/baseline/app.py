"""`python -m tests.load.baseline.app PORT POSTGRES_URL REDIS_URL`: the specification's MVP, one process.

As a competent person would write it from the text: the key from Redis, the schema by fastjsonschema, one INSERT and one
transaction an event, 202; a background task copies what is new into the read model every second; statistics aggregate
the read model and are cached for a minute. The text leaves batches to the future: here a batch is one transaction of
one INSERT an event. It uses uvloop, httptools, orjson and prepared statements, as the product does.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import fastjsonschema
import orjson
import uvicorn
import uvloop
from redis.asyncio import BlockingConnectionPool, Redis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.load.baseline import schema

_POLL_S = 1.0
_KEY_TTL_S = 3600
_STATISTICS_TTL_S = 60
_VALIDATORS = {
    "purchase": fastjsonschema.compile({"type": "object", "properties": {"price": {"type": "number"}}}),
}


class Baseline:
    """The routes and the background task."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", redis: Redis) -> None:
        self._pool = pool
        self._redis = redis

    async def ingest(self, request: Request) -> Response:
        """One event."""
        body = orjson.loads(await request.body())
        system_id = await self._system(body["apiKey"])
        if system_id is None:
            return _json({"error": "Invalid API key"}, 401)
        row = _row(body, system_id)
        await self._pool.execute(schema.INSERT, *row)
        return _json(_result(row), 202)

    async def batch(self, request: Request) -> Response:
        """Several in one transaction."""
        body = orjson.loads(await request.body())
        system_id = await self._system(body["apiKey"])
        if system_id is None:
            return _json({"error": "Invalid API key"}, 401)
        rows = [_row(event, system_id) for event in body["events"]]
        async with self._pool.acquire() as connection, connection.transaction():
            for row in rows:
                await connection.execute(schema.INSERT, *row)
        return _json({"results": [_result(row) for row in rows]}, 202)

    async def statistics(self, request: Request) -> Response:
        """By event name, between `startDate` and `endDate`."""
        system_id, asked = request.path_params["system_id"], request.query_params
        cache_key = f"statistics:{system_id}:{asked['startDate']}:{asked['endDate']}"
        if (cached := await self._redis.get(cache_key)) is not None:
            return Response(cached, media_type="application/json")
        times = (_time(asked["startDate"]), _time(asked["endDate"]))
        found = await self._pool.fetch(schema.STATISTICS, UUID(system_id), *times)
        body = orjson.dumps({row["event_name"]: {"total": row["total"], "valid": row["valid"]} for row in found})
        await self._redis.set(cache_key, body, ex=_STATISTICS_TTL_S)
        return Response(body, media_type="application/json")

    async def poll(self) -> None:
        """Copy what is new into the read model, for ever."""
        done_at = datetime(2000, 1, 1)
        while True:
            began_at = _now()
            await self._pool.execute(schema.COPY_NEW, done_at, timeout=600)
            done_at = began_at
            await asyncio.sleep(_POLL_S)

    async def _system(self, api_key: str) -> UUID | None:
        cache_key = f"partner_system:apikey:{api_key}"
        if (cached := await self._redis.get(cache_key)) is not None:
            return UUID(cached.decode() if isinstance(cached, bytes) else cached)
        row = await self._pool.fetchrow(schema.SYSTEM_OF_KEY, sha256(api_key.encode()).digest())
        if row is None or not row["is_active"]:
            return None
        await self._redis.set(cache_key, str(row["id"]), ex=_KEY_TTL_S)
        system_id: UUID = row["id"]
        return system_id


def _row(event: dict[str, Any], system_id: UUID) -> tuple[Any, ...]:
    properties = event.get("eventProperties") or {}
    if isinstance(properties, str):
        properties = orjson.loads(properties)
    fault = None
    if (validate := _VALIDATORS.get(event["eventName"])) is not None:
        try:
            validate(properties)
        except fastjsonschema.JsonSchemaException as error:
            fault = str(error)[:2000]
    now = _now()
    at = _time(event["eventTimestamp"]) if "eventTimestamp" in event else now
    text = orjson.dumps(properties).decode()
    actors = (event.get("userId"), event.get("anonymousId") or "")
    return (uuid4(), system_id, event["eventName"], at, *actors, text, fault is None, fault, uuid4().hex, now)


def _result(row: tuple[Any, ...]) -> dict[str, Any]:
    return {"eventId": row[0], "isValid": row[7], "validationErrors": row[8], "receivedAt": row[10]}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _json(content: Any, status: int) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


async def serve(port: int, postgres_url: str, redis_url: str) -> None:
    """Until SIGTERM."""
    connections = BlockingConnectionPool.from_url(redis_url, max_connections=20, timeout=None)
    pools = asyncpg.create_pool(postgres_url, min_size=10, max_size=20)
    async with pools as pool, Redis(connection_pool=connections) as redis:
        baseline = Baseline(pool, redis)

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            polling = asyncio.create_task(baseline.poll())
            yield
            polling.cancel()

        routes = [
            Route("/api/events/ingest", baseline.ingest, methods=["POST"]),
            Route("/api/events/batch", baseline.batch, methods=["POST"]),
            Route("/api/events/partner-system/{system_id}/statistics", baseline.statistics),
        ]
        app = Starlette(routes=routes, lifespan=lifespan)
        config = uvicorn.Config(app, port=port, loop="none", http="httptools", ws="none", log_config=None, backlog=4096)
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
