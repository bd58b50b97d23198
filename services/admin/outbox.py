"""Domain events: written down with the change, then delivered to Redis and to every process's cache.

Delivery reads the present state, so that repeating it or mixing up its order does no harm. It always SETs: readers
fill Redis with SET NX, and what admin wrote must win over what a reader read before. A failure leaves the event
undelivered, and the loop tries again each second until Redis has it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID, uuid4

import orjson
from redis.asyncio import Redis

from tracking.contracts.cache_entries import AccessTokenEntry, ApiKeyEntry
from tracking.domain.domain_events import DomainEvent
from tracking.infra import cache, correlation, postgres
from tracking.infra.postgres import Connection, Pool

_log = logging.getLogger(__name__)
_AT_ONCE = 100
_EVERY_S = 1.0
_AWAY: tuple[type[BaseException], ...] = (*cache.FAILURES, *postgres.TRANSIENT)

_INSERT = """
insert into write.domain_events (id, name, occurred_at, payload, correlation_id)
values ($1, $2, $3, $4, $5)
"""


async def write_down(connection: Connection, events: Iterable[DomainEvent]) -> None:
    """In the transaction of the change."""
    for event in events:
        await connection.execute(
            _INSERT,
            uuid4(),
            event.name,
            event.occurred_at,
            orjson.dumps(event.payload(), default=str),
            correlation.current() or "",
        )


_KEYS_OF = """
select k.key_sha256,
       k.id as key_id,
       k.expires_at,
       k.revoked_at,
       s.id as partner_system_id,
       s.name as system_name,
       s.is_active as is_system_active,
       p.id as partner_id,
       p.name as partner_name,
       p.is_active as is_partner_active
  from write.api_keys k
  join write.partner_systems s on s.id = k.partner_system_id
  join write.partners p on p.id = s.partner_id
 where (s.partner_id = $1 and $2::uuid is null)
    or (s.id = $2 and $3::uuid is null)
    or k.id = $3
"""

_SYSTEMS_OF = """
select id, partner_id, name, type, description, is_active
  from write.partner_systems
 where id = $2
    or (partner_id = $1 and $2::uuid is null)
"""

_VERSIONS_OF = """
select s.id, v.version, v.status, v.schema
  from write.event_structures s
  join write.event_structure_versions v on v.structure_id = s.id
 where s.id = $1
   and v.status <> 'draft'
 order by v.version
"""

_TOKEN = """
select token_sha256, id as token_id, scope, partner_id, expires_at, revoked_at
  from write.access_tokens
 where id = $1
"""

_UNDELIVERED = """
select id, payload
  from write.domain_events
 where delivered_at is null
 order by id
 limit $1
   for update skip locked
"""

_MARK_DELIVERED = """
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

    async def deliver(self) -> bool:
        """Deliver what waits; False if it could not be done now. Never raises for a cache or database that is away."""
        try:
            async with asyncio.timeout(self._timeout_s), self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(_UNDELIVERED, _AT_ONCE)
                for row in rows:
                    await self._deliver_one(connection, orjson.loads(row["payload"]))
                await connection.execute(_MARK_DELIVERED, [row["id"] for row in rows])
        except _AWAY as error:
            _log.warning("changes wait to be told to the caches: %s", postgres.describe(error))
            return False
        return True

    async def run(self, beat: Callable[[], None]) -> None:
        """Deliver once a second until cancelled."""
        while True:
            beat()
            await self.deliver()
            await asyncio.sleep(_EVERY_S)

    async def _deliver_one(self, connection: Connection, payload: dict[str, Any]) -> None:
        match payload:
            case {"structure_id": structure_id, "partner_id": partner_id, "event_name": event_name}:
                await self._tell_structure(connection, UUID(structure_id), partner_id, event_name)
            case {"token_id": token_id}:
                await self._tell_token(connection, UUID(token_id))
            case {"key_id": key_id}:
                await self._tell_keys(await connection.fetch(_KEYS_OF, None, None, UUID(key_id)))
            case {"partner_id": partner_id, **rest}:
                system_id = rest.get("partner_system_id")
                ids = (UUID(partner_id), UUID(system_id) if system_id else None)
                await self._tell_keys(await connection.fetch(_KEYS_OF, *ids, None))
                for system in await connection.fetch(_SYSTEMS_OF, *ids):
                    await self._set(cache.partner_system_cache_key(system["id"]), _system_json(system))

    async def _tell_keys(self, rows: Sequence[Any]) -> None:
        for row in rows:
            values = dict(row)
            digest = values.pop("key_sha256").hex()
            await self._set(cache.api_key_cache_key(digest), ApiKeyEntry(**values).encode())
            await cache.publish_invalidation(self._redis, {"kind": "api_key", "sha256": digest})

    async def _tell_token(self, connection: Connection, token_id: UUID) -> None:
        row = await connection.fetchrow(_TOKEN, token_id)
        if row is not None:
            values = dict(row)
            digest = values.pop("token_sha256").hex()
            await self._set(cache.access_token_cache_key(digest), AccessTokenEntry(**values).encode())
            await cache.publish_invalidation(self._redis, {"kind": "access_token", "sha256": digest})

    async def _tell_structure(
        self, connection: Connection, structure_id: UUID, partner_id: str | None, event_name: str
    ) -> None:
        rows = await connection.fetch(_VERSIONS_OF, structure_id)
        entry = {
            "structureId": str(structure_id),
            "eventName": event_name,
            "partnerId": partner_id,
            "versions": [
                {"version": row["version"], "status": row["status"], "schema": orjson.Fragment(row["schema"])}
                for row in rows
            ],
        }
        await self._set(cache.event_structure_cache_key(partner_id, event_name), orjson.dumps(entry))
        message = {"kind": "structure", "eventName": event_name, "partnerId": partner_id or ""}
        await cache.publish_invalidation(self._redis, message)

    async def _set(self, key: str, value: bytes) -> None:
        await self._redis.set(key, value, ex=self._ttl_s)


def _system_json(row: Any) -> bytes:
    return orjson.dumps(
        {
            "id": row["id"],
            "partnerId": row["partner_id"],
            "name": row["name"],
            "type": row["type"],
            "description": row["description"],
            "isActive": row["is_active"],
        },
        default=str,
    )
