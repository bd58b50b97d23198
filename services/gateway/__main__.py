"""`python -m services.gateway`: wires the gateway and serves until SIGTERM."""

import asyncio
from contextlib import AsyncExitStack
from ipaddress import ip_network

from services.gateway.answers import SERVICE, EventCounts
from services.gateway.app import Gateway, build
from services.gateway.commit import GroupCommit
from services.gateway.intake import Intake
from services.gateway.invalidation import listener
from services.gateway.keys import ApiKeys
from services.gateway.publish import BatchPublisher
from services.gateway.rates import RateLimits
from services.gateway.request import Limits
from services.gateway.sdk import SdkRoutes
from services.gateway.single import INGEST_PATH, SingleEvents
from services.gateway.store import EventStore
from services.gateway.structures import Structures
from tracking.infra import cache, postgres, process, telemetry
from tracking.infra.process import Health, Listening
from tracking.infra.rabbitmq import Publisher
from tracking.infra.settings import GatewaySettings


async def main() -> None:
    """Open what the gateway needs; on SIGTERM finish requests, then commits, then publishes, then close."""
    settings = GatewaySettings()
    telemetry.configure_logging(SERVICE, settings.environment, settings.log_level, settings.log_file)
    database_url = settings.write_database_url.get_secret_value()
    async with AsyncExitStack() as resources:
        telemetry.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio, resources)
        pool = await postgres.open_pool(
            database_url,
            service=SERVICE,
            connect_timeout_s=settings.connect_timeout_s,
            query_timeout_s=settings.query_timeout_s,
            size=4,
        )
        resources.push_async_callback(postgres.close_pool, pool)
        redis = cache.open_redis(settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s)
        resources.push_async_callback(redis.aclose)
        broker = Publisher(
            settings.rabbitmq_url.get_secret_value(), name="tracking-gateway", timeout_s=settings.publish_timeout_s
        )
        resources.push_async_callback(broker.close)
        publisher = BatchPublisher(broker, pool)
        store = EventStore(database_url, connect_timeout_s=settings.connect_timeout_s)
        resources.callback(store.close)
        commits = GroupCommit(
            store,
            publisher.offer,
            deadline_s=settings.commit_deadline_s,
            buffer_events=settings.buffer_events,
            buffer_bytes=settings.buffer_bytes,
        )
        keys = ApiKeys(redis, pool, ttl_s=settings.cache_ttl_s)
        structures = Structures(redis, pool)
        health = Health(
            SERVICE,
            {"postgres": lambda: postgres.ping(pool), "structures": structures.ping},
            {"redis": lambda: cache.ping(redis), "rabbitmq": broker.ping},
        )
        limits = Limits(**settings.model_dump(include=set(Limits.__dataclass_fields__)))
        counts = EventCounts(structures)
        rates = RateLimits(redis)
        proxies = [ip_network(part.strip()) for part in settings.trusted_proxies.split(",")]
        intake = Intake(keys, structures, commits, counts, rates, limits, proxies)
        app = build(Gateway(intake), SdkRoutes(intake, settings.sdk_prefix), health)
        singles = SingleEvents(keys, structures, commits, counts, rates, limits)
        async with asyncio.TaskGroup() as work:
            publishing = work.create_task(publisher.run(lambda: health.beat("publish", 60)))
            committing = work.create_task(commits.run(lambda: health.beat("commit", 60)))
            async with process.running(
                listener(redis, keys, structures).run(), keys.mark_used_regularly(), structures.run()
            ):
                await process.serve(app, health, Listening.of(settings), {INGEST_PATH: singles.take})
            commits.close()
            await committing
            publisher.close()
            await publishing


if __name__ == "__main__":
    process.run(main)
