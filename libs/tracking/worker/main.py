"""Runs a worker: the common part of the mains of projector and statistics."""

from contextlib import AsyncExitStack
from typing import Protocol

from pydantic import SecretStr

from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import EventsTracked
from tracking.http import server
from tracking.http.server import ServerOptions
from tracking.infra import postgres, telemetry
from tracking.infra.postgres import Pool
from tracking.worker.consumer import InboxConsumer
from tracking.worker.deliveries import Deliveries
from tracking.worker.inbox import Apply, Inbox

# A single batch that takes longer than `query_timeout_s` may take this many times as long.
_SLOW_BATCH_TIMEOUT_FACTOR = 6


class _WorkerSettings(Protocol):
    log_file: str | None
    otlp_endpoint: str | None
    trace_sample_ratio: float
    read_database_url: SecretStr
    rabbitmq_url: SecretStr
    connect_timeout_s: float
    query_timeout_s: float
    group_events: int
    group_bytes: int
    prefetch_messages: int
    dead_letter_limit: int
    retry_pause_s: float

    @property
    def environment(self) -> str: ...

    @property
    def log_level(self) -> str: ...


async def run_worker(
    service: str, settings: _WorkerSettings, listening: ServerOptions, *, apply: Apply[EventsTracked]
) -> None:
    """Open what the worker needs, consume its queue until SIGTERM, close in reverse. `apply` is that of `Inbox`."""
    telemetry.configure_logging(service, settings.environment, settings.log_level, settings.log_file)
    async with AsyncExitStack() as resources:
        telemetry.configure_tracing(service, settings.otlp_endpoint, settings.trace_sample_ratio, resources)
        pool = await _open_pool(service, settings, resources, size=3)
        # connects only when it is needed
        slow_pool = await _open_pool(service, settings, resources, size=1, timeout_factor=_SLOW_BATCH_TIMEOUT_FACTOR)

        def take_deliveries() -> Deliveries[EventsTracked]:
            return Deliveries(
                service,
                pool,
                Inbox(service, pool, apply),
                Inbox(service, slow_pool, apply),
                group_events=settings.group_events,
                group_bytes=settings.group_bytes,
                retry_pause_s=settings.retry_pause_s,
            )

        consumer = InboxConsumer(
            consumer=service,
            rabbitmq_url=settings.rabbitmq_url.get_secret_value(),
            pool=pool,
            take_deliveries=take_deliveries,
            decode=events_tracked.decode,
            unreadable=events_tracked.UnreadableMessage,
            prefetch_messages=settings.prefetch_messages,
            dead_letter_limit=settings.dead_letter_limit,
            timeout_s=settings.connect_timeout_s,
        )
        await server.serve_worker(
            service,
            consumer.run,
            consumer.stop,
            pings={"postgres": lambda: postgres.ping(pool), "queue": consumer.ping},
            settings=listening,
        )


async def _open_pool(
    service: str, settings: _WorkerSettings, resources: AsyncExitStack, *, size: int, timeout_factor: int = 1
) -> Pool:
    pool = await postgres.open_pool(
        settings.read_database_url.get_secret_value(),
        service=service,
        connect_timeout_s=settings.connect_timeout_s,
        query_timeout_s=settings.query_timeout_s * timeout_factor,
        size=size,
    )
    resources.push_async_callback(postgres.close_pool, pool)
    return pool
