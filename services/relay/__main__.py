"""`python -m services.relay`: opens the resources of the relay and runs it until SIGTERM."""

from contextlib import AsyncExitStack
from datetime import timedelta

from services.relay import SERVICE
from services.relay.loop import Relay
from services.relay.retention import RetentionOptions
from services.relay.settings import RelaySettings
from tracking.http import server
from tracking.http.server import ServerOptions
from tracking.infra import postgres, process, telemetry
from tracking.infra.rabbitmq import Publisher


async def main() -> None:
    """Open the resources of the relay, run it, and close them in reverse order."""
    settings = RelaySettings()
    telemetry.configure_logging(SERVICE, settings.environment, settings.log_level, settings.log_file)
    rabbitmq_url = settings.rabbitmq_url.get_secret_value()
    async with AsyncExitStack() as resources:
        telemetry.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio, resources)
        pools = []
        for url in (settings.write_database_url, settings.read_database_url):
            pool = await postgres.open_pool(
                url.get_secret_value(),
                service=SERVICE,
                connect_timeout_s=settings.connect_timeout_s,
                query_timeout_s=settings.query_timeout_s,
                size=4,
            )
            resources.push_async_callback(postgres.close_pool, pool)
            pools.append(pool)
        write, read = pools
        publisher = Publisher(rabbitmq_url, name="tracking-relay", timeout_s=settings.publish_timeout_s)
        resources.push_async_callback(publisher.close)
        relay = Relay(
            write=write,
            read=read,
            publisher=publisher,
            rabbitmq_url=rabbitmq_url,
            connect_timeout_s=settings.connect_timeout_s,
            tick_s=settings.tick_s,
            unpublished_after_s=settings.unpublished_after_s,
            unapplied_after_s=settings.unapplied_after_s,
            upkeep_interval_s=settings.upkeep_interval_s,
            retention=RetentionOptions(
                settings.retention_months,
                settings.counts_retention_months,
                timedelta(seconds=settings.retention_delay_s),
            ),
        )
        await server.serve_worker(
            SERVICE,
            relay.run,
            relay.stop,
            pings={"write": lambda: postgres.ping(write), "read": lambda: postgres.ping(read)},
            optional={"rabbitmq": publisher.ping},
            settings=ServerOptions.from_settings(settings),
        )


if __name__ == "__main__":
    process.run(main)
