"""`python -m services.admin`: wires the administration and serves until SIGTERM."""

from contextlib import AsyncExitStack
from random import getrandbits

from services.admin import SERVICE
from services.admin.app import create_app
from services.admin.bootstrap import Bootstrap
from services.admin.cache import PartnerSystemCache
from services.admin.commands import AdminCommands
from services.admin.outbox import Outbox
from services.admin.settings import AdminSettings
from services.admin.unit_of_work import UnitOfWorkFactory
from tracking.http import server
from tracking.http.health import Health
from tracking.http.server import ServerOptions
from tracking.infra import postgres, process, telemetry
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import open_redis, ping_redis


async def main() -> None:
    """Open every resource, serve until SIGTERM, and close the resources in reverse order."""
    settings = AdminSettings()
    telemetry.configure_logging(SERVICE, settings.environment, settings.log_level, settings.log_file)
    async with AsyncExitStack() as resources:
        telemetry.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio, resources)
        pool = await postgres.open_pool(
            settings.write_database_url.get_secret_value(),
            service=SERVICE,
            connect_timeout_s=settings.connect_timeout_s,
            query_timeout_s=settings.query_timeout_s,
        )
        resources.push_async_callback(postgres.close_pool, pool)
        redis = open_redis(settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s)
        resources.push_async_callback(redis.aclose)
        outbox = Outbox(pool, redis, ttl_s=settings.cache_ttl_s, timeout_s=settings.redis_timeout_s)
        commands = AdminCommands(UnitOfWorkFactory(pool, outbox, getrandbits, timeout_s=settings.connect_timeout_s))
        cache = PartnerSystemCache(CacheAside(redis, needs_subscription=False), commands, ttl_s=settings.cache_ttl_s)
        bootstrap = Bootstrap(commands, settings.admin_token.get_secret_value())
        health = Health(
            SERVICE,
            {"postgres": lambda: postgres.ping(pool), "bootstrap": bootstrap.ping},
            {"redis": lambda: ping_redis(redis)},
        )
        app = create_app(commands, cache, health)
        async with process.run_in_background(
            outbox.run(lambda: health.record_heartbeat("outbox", 60)), bootstrap.run()
        ):
            await server.serve(app, health, ServerOptions.from_settings(settings))


if __name__ == "__main__":
    process.run(main)
