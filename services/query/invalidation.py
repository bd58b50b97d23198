"""What a change in admin means for this process's caches."""

from redis.asyncio import Redis

from services.query.auth import AccessTokenLookup
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import InvalidationListener


def make_invalidation_listener(redis: Redis, beside: CacheAside, tokens: AccessTokenLookup) -> InvalidationListener:
    """Forgets what changed; forgets everything when something may have been missed."""

    async def on_message(message: dict[str, str]) -> None:
        match message.get("kind"):
            case "access_token":
                tokens.invalidate(message.get("sha256"))
            case "api_key" | "structure":
                pass
            case _:
                tokens.invalidate()

    async def on_gap() -> None:
        tokens.invalidate()

    def on_connection(is_heard: bool) -> None:
        beside.is_subscribed = is_heard
        if not is_heard:
            tokens.invalidate()

    return InvalidationListener(redis, on_message, on_gap, on_connection)
