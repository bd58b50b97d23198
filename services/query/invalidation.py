"""What a change in admin means for this process's caches."""

from redis.asyncio import Redis

from services.query.auth import AccessTokenLookup
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import InvalidationListener


def listener(redis: Redis, beside: CacheAside, tokens: AccessTokenLookup) -> InvalidationListener:
    """Forgets what changed; forgets everything when something may have been missed."""

    async def on_message(message: dict[str, str]) -> None:
        match message.get("kind"):
            case "access_token":
                tokens.forget(message.get("sha256"))
            case "api_key" | "structure":
                pass
            case _:
                tokens.forget()

    async def on_gap() -> None:
        tokens.forget()

    def on_connection(is_heard: bool) -> None:
        beside.is_heard = is_heard
        if not is_heard:
            tokens.forget()

    return InvalidationListener(redis, on_message, on_gap, on_connection)
