"""Loads the index of event structures from the write database, and a schema when the first event needs it.

A schema is looked up in Redis, then in the write database, and compiled. It is immutable once published, so a compiled
validator never becomes stale. Only the index does, and it is read again after each invalidation.
"""

import asyncio
import contextlib
import logging
from typing import Any

import orjson

from services.gateway.events.structure_index import SchemaRef, StructureIndex
from tracking.contracts.cache_entries import EventStructureEntry, make_event_structure_cache_key
from tracking.domain.errors import Unavailable
from tracking.infra import metrics, postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.validation import compile_schema

_log = logging.getLogger(__name__)
_REFRESH_SUBSCRIBED_INTERVAL_S = 30.0
_REFRESH_UNSUBSCRIBED_INTERVAL_S = 5.0

_SELECT_INDEX = """
select s.id, s.partner_id, s.event_name, v.version, v.status
  from write.event_structures s
  join write.event_structure_versions v on v.structure_id = s.id
 where v.status in ('published', 'deprecated')
"""

_SELECT_SCHEMA = """
select schema
  from write.event_structure_versions
 where structure_id = $1
   and version = $2
"""


class EventStructureLookup:
    """Fills `index`, which finds structures in memory; `run` keeps it fresh."""

    def __init__(self, redis: CacheAside, pool: postgres.Pool) -> None:
        self._redis = redis
        self._pool = pool
        self.index = StructureIndex()
        self._stale = asyncio.Event()
        self._is_loaded = False

    async def load(self, wanted: SchemaRef) -> None:
        """Load a validator. Raises Unavailable if neither Redis nor the write database provides the schema."""
        schema = await self._from_redis(wanted)
        if schema is None:
            schema = await self._from_database(wanted)
        # A large schema is compiled in a thread, so that other requests are not delayed.
        validator = await asyncio.to_thread(compile_schema, schema)
        self.index.add_validator(wanted, validator)

    def invalidate(self) -> None:
        """Mark the index as out of date, so that it is read again at once."""
        self._stale.set()

    async def ping(self) -> None:
        """Raise Unavailable until the index was read once."""
        if not self._is_loaded:
            raise Unavailable("structures_unknown", "The event structures could not be read yet.")

    async def run(self) -> None:
        """Read the index after each invalidation, and at intervals in case one was missed; until cancelled."""
        while True:
            self._stale.clear()
            try:
                await self.refresh()
            except postgres.POSTGRES_ERRORS as error:
                _log.warning("event structures stay as they were read: %s", postgres.describe_error(error))
                await asyncio.sleep(0.5)
            wait_s = _REFRESH_SUBSCRIBED_INTERVAL_S if self._redis.is_subscribed else _REFRESH_UNSUBSCRIBED_INTERVAL_S
            if self._is_loaded:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._stale.wait()

    async def refresh(self) -> None:
        """Read the whole index. Raises postgres.POSTGRES_ERRORS."""
        rows = await self._pool.fetch(_SELECT_INDEX)
        self.index.replace(
            (SchemaRef(row["id"], row["version"], row["partner_id"], row["event_name"]), row["status"] == "published")
            for row in rows
        )
        self._is_loaded = True

    async def _from_redis(self, wanted: SchemaRef) -> Any:
        data = await self._redis.get(make_event_structure_cache_key(wanted.partner_id, wanted.event_name))
        entry = EventStructureEntry.decode(data) if data is not None else None
        if entry is None or entry.structure_id != wanted.structure_id:
            return None
        metrics.cache_lookups.labels("structure", "redis").inc()
        return entry.schemas.get(wanted.version)

    async def _from_database(self, wanted: SchemaRef) -> Any:
        try:
            text = await self._pool.fetchval(_SELECT_SCHEMA, wanted.structure_id, wanted.version)
        except postgres.POSTGRES_ERRORS as error:
            raise Unavailable("database_unavailable", "The schema of this event cannot be read now.", 2) from error
        metrics.cache_lookups.labels("structure", "database").inc()
        return True if text is None else orjson.loads(text)
