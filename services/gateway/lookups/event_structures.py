"""Which JSON Schema an event must meet: an index of the published structures in memory, validators compiled once.

The index holds names and versions only, all of them, so an event without a structure costs no look-up, whatever names
a client makes up. A schema is loaded (Redis, then the write database) and compiled when the first event needs it; it is
immutable once published, so a compiled one never goes stale: only the index does.
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from tracking.contracts.cache_entries import make_event_structure_cache_key
from tracking.domain.errors import Malformed, Unavailable
from tracking.infra import metrics, postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.validation import Validator, compile_schema

_log = logging.getLogger(__name__)
_MAX_COMPILED = 2_000
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


@dataclass(frozen=True, slots=True)
class SchemaRef:
    """A schema that can be named: the `version` of the structure `structure_id`."""

    structure_id: UUID
    version: int
    partner_id: UUID | None
    event_name: str


@dataclass(slots=True)
class _Versions:
    by_number: dict[int, SchemaRef] = field(default_factory=dict)
    current: SchemaRef | None = None


# by name first: a string's hash is kept with it, that of a pair or a UUID is computed each time
_Index = dict[str, dict[UUID | None, _Versions]]


class SchemaNotLoaded(Exception):
    """The validator of `wanted` must be loaded first: `await load(wanted)`, then ask again."""

    def __init__(self, wanted: SchemaRef) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class EventStructureLookup:
    """Answers in memory; `run` keeps the index fresh."""

    def __init__(self, redis: CacheAside, pool: postgres.Pool) -> None:
        self._redis = redis
        self._pool = pool
        self._index: _Index = {}
        self._compiled: OrderedDict[tuple[UUID, int], Validator] = OrderedDict()
        self._stale = asyncio.Event()
        self._is_loaded = False

    def find(self, partner_id: UUID, event_name: str, version: int | None) -> SchemaRef | None:
        """The structure that decides: the partner's own wins over the global one. None = nothing to meet.

        Raises Malformed (`unknown_schema_version`) if `version` is named and there is none such.
        """
        by_partner = self._index.get(event_name)
        if by_partner is None:
            return None
        versions = by_partner.get(partner_id) or by_partner.get(None)
        if versions is None:
            return None
        if version is None:
            return versions.current
        found = versions.by_number.get(version)
        if found is None:
            raise Malformed("unknown_schema_version", f"{event_name!r} has no published schema version {version}.")
        return found

    def is_registered(self, partner_id: UUID, event_name: str) -> bool:
        """Whether the name has a structure, so that it may become a metric's label."""
        by_partner = self._index.get(event_name)
        return by_partner is not None and (partner_id in by_partner or None in by_partner)

    def get_validator(self, wanted: SchemaRef) -> Validator:
        """Raises NotLoaded where it was not needed before."""
        key = (wanted.structure_id, wanted.version)
        validator = self._compiled.get(key)
        if validator is None:
            raise SchemaNotLoaded(wanted)
        return validator

    async def load(self, wanted: SchemaRef) -> None:
        """Make the validator ready. Raises Unavailable when the schema can be had from nowhere."""
        schema = await self._from_redis(wanted)
        if schema is None:
            schema = await self._from_database(wanted)
        # in a thread: compiling a large schema must not hold up the requests of others
        validator = await asyncio.to_thread(compile_schema, schema)
        if len(self._compiled) >= _MAX_COMPILED:
            self._compiled.popitem(last=False)
        self._compiled[(wanted.structure_id, wanted.version)] = validator

    def invalidate(self) -> None:
        """The index may be out of date; it is read again at once."""
        self._stale.set()

    async def ping(self) -> None:
        """Raises Unavailable until the index was read once."""
        if not self._is_loaded:
            raise Unavailable("structures_unknown", "The event structures could not be read yet.")

    async def run(self) -> None:
        """Read the index when something changed, and every so often in case that was not heard; until cancelled."""
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
        """Read the whole index. Raises postgres.FAILURES."""
        index: _Index = {}
        for row in await self._pool.fetch(_SELECT_INDEX):
            found = SchemaRef(row["id"], row["version"], row["partner_id"], row["event_name"])
            versions = index.setdefault(found.event_name, {}).setdefault(found.partner_id, _Versions())
            versions.by_number[found.version] = found
            is_newer = versions.current is None or found.version > versions.current.version
            if row["status"] == "published" and is_newer:
                versions.current = found
        self._index = index
        self._is_loaded = True

    async def _from_redis(self, wanted: SchemaRef) -> Any:
        data = await self._redis.get(make_event_structure_cache_key(wanted.partner_id, wanted.event_name))
        try:
            entry = orjson.loads(data) if data is not None else None
            if entry is None or entry["structureId"] != str(wanted.structure_id):
                return None
            metrics.cache_lookups.labels("structure", "redis").inc()
            return next((v["schema"] for v in entry["versions"] if v["version"] == wanted.version), None)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None

    async def _from_database(self, wanted: SchemaRef) -> Any:
        try:
            text = await self._pool.fetchval(_SELECT_SCHEMA, wanted.structure_id, wanted.version)
        except postgres.POSTGRES_ERRORS as error:
            raise Unavailable("database_unavailable", "The schema of this event cannot be read now.", 2) from error
        metrics.cache_lookups.labels("structure", "database").inc()
        return True if text is None else orjson.loads(text)
