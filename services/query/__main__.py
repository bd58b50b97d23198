"""`python -m services.query`: opens the resources of the analytics API and serves until SIGTERM."""

from contextlib import AsyncExitStack
from functools import partial

from services.query import SERVICE, auth, wiring
from services.query.app import QueryRoutes, create_app
from services.query.auth import AccessTokenLookup, SystemOwners
from services.query.budget import EventLimits
from services.query.cache import StatisticsCache
from services.query.invalidation import make_invalidation_listener
from services.query.lanes import LaneLimits
from services.query.settings import QuerySettings
from tracking.http import server
from tracking.http.health import Health
from tracking.http.server import ServerOptions
from tracking.infra import postgres, process, telemetry
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import open_redis, ping_redis
from tracking.tables.credential_changes import CredentialChanges


async def main() -> None:
    """Open the databases and Redis, serve, and close them in reverse order."""
    settings = QuerySettings()
    telemetry.configure_logging(SERVICE, settings.environment, settings.log_level, settings.log_file)
    read = wiring.ReadDatabase(
        settings.read_database_url.get_secret_value(), settings.connect_timeout_s, settings.query_timeout_s
    )
    async with AsyncExitStack() as resources:
        telemetry.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio, resources)
        access = await wiring.open_access_pool(read, resources)
        budget = await wiring.open_budget(read, *_read_limits(settings), resources)
        redis = open_redis(settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s)
        resources.push_async_callback(redis.aclose)
        beside = CacheAside(redis)
        write_url = settings.write_database_url.get_secret_value()
        registry = await wiring.open_registry_pool(write_url, resources)
        changes = CredentialChanges(write_url, service=SERVICE)
        tokens = AccessTokenLookup(beside, registry, access, changes, ttl_s=settings.token_cache_ttl_s)
        owners = SystemOwners(partial(auth.find_owner, access))
        query = QueryRoutes(budget, owners, StatisticsCache(beside, budget, ttl_s=settings.statistics_ttl_s))
        health = Health(
            SERVICE,
            {"postgres": lambda: postgres.ping(access)},
            {"redis": lambda: ping_redis(redis), "write": lambda: postgres.ping(registry)},
        )
        app = create_app(query, tokens, health, settings.query_allowed_origins)
        async with process.run_in_background(make_invalidation_listener(redis, beside, tokens).run(), changes.run()):
            await server.serve(app, health, ServerOptions.from_settings(settings))


def _read_limits(settings: QuerySettings) -> tuple[LaneLimits, LaneLimits, EventLimits]:
    cheap, heavy, wait_s = settings.cheap_questions, settings.heavy_questions, settings.question_wait_s
    return (
        # a quarter is left for other tokens, however much one of them asks
        LaneLimits(cheap, cheap - cheap // 4, wait_s, settings.cheap_timeout_s),
        LaneLimits(heavy, settings.heavy_questions_by_caller, wait_s, settings.query_timeout_s),
        EventLimits(settings.cheap_events, settings.max_events),
    )


if __name__ == "__main__":
    process.run(main)
