"""What a change in admin means for this process's caches."""

from redis.asyncio import Redis

from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from tracking.infra.redis import InvalidationListener


def make_invalidation_listener(
    redis: Redis, keys: ApiKeyLookup, structures: EventStructureLookup
) -> InvalidationListener:
    """Forgets what changed; forgets everything when something may have been missed."""

    async def on_message(message: dict[str, str]) -> None:
        match message.get("kind"):
            case "api_key":
                keys.invalidate(message.get("sha256"))
            case "structure":
                structures.invalidate()
            case "access_token":
                pass
            case _:
                await on_gap()

    async def on_gap() -> None:
        keys.invalidate()
        structures.invalidate()

    def on_connection(is_heard: bool) -> None:
        keys.is_subscribed = structures.is_subscribed = is_heard
        if not is_heard:
            # what was cached for long, trusting that changes are heard, may be wrong from now on
            keys.invalidate()

    return InvalidationListener(redis, on_message, on_gap, on_connection)
