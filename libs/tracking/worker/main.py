"""Runs a worker: the common part of the mains of projector and statistics."""

from contextlib import AsyncExitStack
from typing import Protocol

from pydantic import SecretStr

from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import EventsTracked
from tracking.http import server
from tracking.http.server import ServerOptions
from tracking.infra import postgres, telemetry
from tracking.worker.consumer import InboxConsumer
from tracking.worker.inbox import Apply, Inbox


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
        pool = await postgres.open_pool(
            settings.read_database_url.get_secret_value(),
            service=service,
            connect_timeout_s=settings.connect_timeout_s,
            query_timeout_s=settings.query_timeout_s,
            size=3,
        )
        resources.push_async_callback(postgres.close_pool, pool)
        consumer = InboxConsumer(
            consumer=service,
            rabbitmq_url=settings.rabbitmq_url.get_secret_value(),
            pool=pool,
            inbox=Inbox(service, pool, apply),
            decode=events_tracked.decode,
            unreadable=events_tracked.UnreadableMessage,
            group_events=settings.group_events,
            group_bytes=settings.group_bytes,
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
