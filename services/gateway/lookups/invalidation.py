"""Applies the invalidations of admin to the caches in this process's memory."""

from typing import assert_never

from redis.asyncio import Redis

from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from tracking.contracts.invalidation import Invalidation
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import InvalidationListener


def apply_invalidation(message: Invalidation, keys: ApiKeyLookup, structures: EventStructureLookup) -> None:
    """Drop the cache entries that an invalidation names."""
    match message.kind:
        case "api_key":
            keys.invalidate(message.sha256)
        case "structure":
            structures.invalidate()
        case "access_token":
            pass
        case "all":
            keys.invalidate()
            structures.invalidate()
        case _:
            assert_never(message.kind)


def make_invalidation_listener(
    redis: Redis, beside: CacheAside, keys: ApiKeyLookup, structures: EventStructureLookup
) -> InvalidationListener:
    """Make a listener that applies invalidations, and reads the event structures again when one may have been missed.

    Keys need nothing then: what has changed of them is read from the write database.
    """

    def on_message(message: Invalidation) -> None:
        apply_invalidation(message, keys, structures)

    def on_gap() -> None:
        structures.invalidate()

    def on_connection(is_connected: bool) -> None:
        beside.is_subscribed = is_connected

    return InvalidationListener(redis, on_message, on_gap, on_connection)
