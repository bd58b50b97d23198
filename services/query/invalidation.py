"""Applies the invalidations of admin to the caches in this process's memory."""

from typing import assert_never

from redis.asyncio import Redis

from services.query.auth import AccessTokenLookup
from tracking.contracts.invalidation import EVERYTHING, Invalidation
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import InvalidationListener


def apply_invalidation(message: Invalidation, tokens: AccessTokenLookup) -> None:
    """Drop the cache entries that an invalidation names."""
    match message.kind:
        case "access_token":
            tokens.invalidate(message.sha256)
        case "api_key" | "structure":
            pass
        case "all":
            tokens.invalidate()
        case _:
            assert_never(message.kind)


def make_invalidation_listener(redis: Redis, beside: CacheAside, tokens: AccessTokenLookup) -> InvalidationListener:
    """Make a listener that applies invalidations, and drops all entries when one may have been missed."""

    def on_message(message: Invalidation) -> None:
        apply_invalidation(message, tokens)

    def on_gap() -> None:
        apply_invalidation(EVERYTHING, tokens)

    def on_connection(is_connected: bool) -> None:
        beside.is_subscribed = is_connected

    return InvalidationListener(redis, on_message, on_gap, on_connection)
