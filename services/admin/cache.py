"""Partner systems from Redis, where admin itself writes them after each change.

An entry is used only if its `updated_at` is that of the row in the write database. Each change moves `updated_at`
forward, so an entry with the present one has the present state. A reader therefore sees what is committed at the moment
of its request, and never less than it has seen before. This holds although a change is committed before Redis is
written: between the two, while the write to Redis is lost and waits in the outbox, and also if an old entry is written
late. Nothing has to be deleted before a change is answered.

What the cache saves is the row with its texts and settings. The token of each request is read from the same database,
so there is no answer without it in any case (docs/decisions/0005 trusts statistics in the same way).
"""

from uuid import UUID

from services.admin.commands import AdminCommands
from services.admin.store import partner_systems
from tracking.contracts.cache_entries import PartnerSystemEntry, make_partner_system_cache_key
from tracking.domain.partner import PartnerSystem
from tracking.infra import metrics
from tracking.infra.cache_aside import CacheAside


class PartnerSystemCache:
    """Cache-aside for single partner systems; `redis` needs no subscription, as every entry is checked."""

    def __init__(self, redis: CacheAside, commands: AdminCommands, *, ttl_s: int) -> None:
        self._redis = redis
        self._commands = commands
        self._ttl_s = ttl_s

    async def get_system(self, partner_system_id: UUID) -> PartnerSystem:
        """Raises NotFound and Unavailable."""
        key = make_partner_system_cache_key(partner_system_id)
        data = await self._redis.get(key)
        entry = PartnerSystemEntry.decode(data) if data is not None else None
        async with self._commands.read_connection() as connection:
            if entry is not None:
                updated_at = await partner_systems.find_update_time(connection, partner_system_id)
                if (entry.id, entry.updated_at) == (partner_system_id, updated_at):
                    metrics.cache_lookups.labels("partner_system", "redis").inc()
                    return entry.to_system()
            system = await partner_systems.find_system(connection, partner_system_id)
        metrics.cache_lookups.labels("partner_system", "database").inc()
        # one that is there is left to the outbox, which writes what is newest
        await self._redis.fill(key, PartnerSystemEntry.from_system(system).encode(), self._ttl_s)
        return system
