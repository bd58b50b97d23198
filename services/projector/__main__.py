"""`python -m services.projector`: wires the projector and runs it until SIGTERM."""

from contextlib import AsyncExitStack

from services.projector import SERVICE
from services.projector.project import project
from tracking.contracts import events_tracked
from tracking.http import server
from tracking.infra import postgres, process, telemetry
from tracking.worker.consumer import InboxConsumer
from tracking.worker.settings import WorkerSettings


async def main() -> None:
    """Open what the worker needs, consume, close in reverse."""
    settings = WorkerSettings()
    telemetry.configure_logging(SERVICE, settings.environment, settings.log_level, settings.log_file)
    async with AsyncExitStack() as resources:
        telemetry.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio, resources)
        pool = await postgres.open_pool(
            settings.read_database_url.get_secret_value(),
            service=SERVICE,
            connect_timeout_s=settings.connect_timeout_s,
            query_timeout_s=settings.query_timeout_s,
            size=3,
        )
        resources.push_async_callback(postgres.close_pool, pool)
        consumer = InboxConsumer(
            consumer=SERVICE,
            rabbitmq_url=settings.rabbitmq_url.get_secret_value(),
            pool=pool,
            decode=events_tracked.decode,
            unreadable=events_tracked.UnreadableMessage,
            apply=project,
            group_events=settings.group_events,
            prefetch_messages=settings.prefetch_messages,
            dead_letter_limit=settings.dead_letter_limit,
            timeout_s=settings.connect_timeout_s,
        )
        await server.serve_worker(
            SERVICE,
            consumer.run,
            consumer.stop,
            pings={"postgres": lambda: postgres.ping(pool), "queue": consumer.ping},
            settings=server.ServerOptions.from_settings(settings),
        )


if __name__ == "__main__":
    process.run(main)
