"""The outbox of domain events: inserted with the change, delivered to Redis and to the caches of processes after it.

Delivery writes the present state (`cache_updates`), so it may be repeated, and its order does not matter. An event that
could not be delivered stays in its row, and the loop of any admin process tries again each second. That a credential
stops working does not depend on delivery: readers check what they find in Redis (tables/credential_changes.py).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from redis.asyncio import Redis

from services.admin.cache_updates import CacheUpdates, read_cache_updates
from tracking.contracts.invalidation import EVERYTHING
from tracking.domain.domain_events import DomainEvent
from tracking.infra import correlation, postgres
from tracking.infra.postgres import Connection, Pool
from tracking.infra.redis import REDIS_ERRORS, publish_invalidation

_log = logging.getLogger(__name__)
_MAX_EVENTS_PER_RUN = 100
_INTERVAL_S = 1.0
# The loop may take longer than an answer may wait: a partner can have thousands of keys.
_LOOP_TIMEOUT_S = 30.0
# Beyond this, one invalidation of everything is cheaper for all processes than one for each entry.
_MAX_SINGLE_INVALIDATIONS = 20
_UNAVAILABLE_ERRORS: tuple[type[BaseException], ...] = (*REDIS_ERRORS, *postgres.TRANSIENT_ERRORS)

_INSERT_DOMAIN_EVENT = """
insert into write.domain_events (id, name, occurred_at, payload, correlation_id)
values ($1, $2, $3, $4, $5)
"""


async def insert_domain_events(
    connection: Connection, events: Iterable[DomainEvent], new_id: Callable[[datetime], UUID]
) -> list[UUID]:
    """In the transaction of the change; returns the ids to deliver after it."""
    rows = [
        (
            new_id(event.occurred_at),
            event.name,
            event.occurred_at,
            orjson.dumps(event.payload()),
            correlation.get_current() or "",
        )
        for event in events
    ]
    await connection.executemany(_INSERT_DOMAIN_EVENT, rows)
    return [row[0] for row in rows]


# Waits for a loop that is delivering them just now: the answer must not come before the caches know.
_SELECT_BY_IDS = """
select id, payload
  from write.domain_events
 where id = any($1::uuid[])
   and delivered_at is null
 order by id
   for update
"""

_SELECT_UNDELIVERED = """
select id, payload
  from write.domain_events
 where delivered_at is null
 order by id
 limit $1
   for update skip locked
"""

_UPDATE_DELIVERED = """
update write.domain_events
   set delivered_at = now()
 where id = any($1::uuid[])
"""


class Outbox:
    """Delivers; `deliver` right after a change, `run` for what could not be delivered then."""

    def __init__(self, pool: Pool, redis: Redis, *, ttl_s: int, timeout_s: float) -> None:
        self._pool = pool
        self._redis = redis
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s

    async def deliver(self, event_ids: Sequence[UUID]) -> None:
        """Deliver these before an answer goes out. Never raises: the change is committed, the loop will deliver it."""
        if event_ids:
            await self._attempt(_SELECT_BY_IDS, list(event_ids), self._timeout_s)

    async def run(self, beat: Callable[[], None]) -> None:
        """Deliver what waits, once a second and without a pause while there is more; until cancelled."""
        while True:
            beat()
            if await self._attempt(_SELECT_UNDELIVERED, _MAX_EVENTS_PER_RUN, _LOOP_TIMEOUT_S) < _MAX_EVENTS_PER_RUN:
                await asyncio.sleep(_INTERVAL_S)

    async def _attempt(self, select: str, argument: Any, timeout_s: float) -> int:
        """How many were delivered; 0 when it failed."""
        try:
            async with asyncio.timeout(timeout_s), self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(select, argument)
                if rows:
                    await self._update_caches(connection, [orjson.loads(row["payload"]) for row in rows])
                    await connection.execute(_UPDATE_DELIVERED, [row["id"] for row in rows])
                return len(rows)
        except _UNAVAILABLE_ERRORS as error:
            _log.warning("changes wait to be told to the caches: %s", postgres.describe_error(error))
        except Exception:
            # a consumer's edge: a bug here must neither undo an answer nor end the process that could be mended
            _log.exception("changes cannot be told to the caches")
        return 0

    async def _update_caches(self, connection: Connection, payloads: list[dict[str, Any]]) -> None:
        entries = await read_cache_updates(connection, payloads)
        while True:
            await self._write(entries)
            # another process may have read later and written earlier; what stands in Redis at last must be the newest
            present = await read_cache_updates(connection, payloads)
            if present.has_same_entries(entries):
                return
            entries = present

    async def _write(self, entries: CacheUpdates) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key, entry in entries.entries.items():
                pipeline.set(key, entry.encode(), ex=self._ttl_s)
            await pipeline.execute()
        is_many = len(entries.invalidations) > _MAX_SINGLE_INVALIDATIONS
        for message in [EVERYTHING] if is_many else entries.invalidations:
            await publish_invalidation(self._redis, message)
