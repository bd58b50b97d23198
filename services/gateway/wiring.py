"""Builds a gateway from its clients and options, and runs it."""

import asyncio
from dataclasses import dataclass

from redis.asyncio import Redis

from services.gateway import SERVICE
from services.gateway.commit.dry_run import DryRunCommit
from services.gateway.commit.event_metrics import EventMetrics
from services.gateway.commit.group_commit import GroupCommit
from services.gateway.commit.publish import BatchPublisher
from services.gateway.commit.rejected import RejectedEventWriter
from services.gateway.commit.stalled_copies import StalledCopies
from services.gateway.commit.store import APPLICATION_NAME, EventStore
from services.gateway.http.app import create_app
from services.gateway.http.browser import BrowserRouteNames
from services.gateway.http.client_address import ClientAddressFinder
from services.gateway.http.fast_path import SingleEventFastPath
from services.gateway.http.ingestion import Ingestion
from services.gateway.http.load_shedding import LoadShedder
from services.gateway.http.paths import INGEST_PATH
from services.gateway.http.request import RequestLimits
from services.gateway.http.sdk import SdkRoutes
from services.gateway.http.unknown_senders import UnknownSenders
from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from services.gateway.lookups.invalidation import make_invalidation_listener
from services.gateway.lookups.rate_limits import RateLimiter
from services.gateway.lookups.retention import RetentionLookup
from tracking.http import server
from tracking.http.health import Health
from tracking.http.server import ServerOptions
from tracking.infra import postgres, process
from tracking.infra.cache_aside import CacheAside
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher
from tracking.infra.redis import ping_redis
from tracking.tables.credential_changes import CredentialChanges


@dataclass(frozen=True, slots=True)
class GatewayClients:
    """The clients of a gateway; `pool`, `store` and `changes` are of the write database."""

    pool: Pool
    store: EventStore
    changes: CredentialChanges
    redis: Redis
    broker: Publisher


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """The choices of an operator beside the limits of a request, in seconds, events and bytes."""

    cache_ttl_s: float
    commit_deadline_s: float
    buffer_events: int
    buffer_bytes: int
    sdk_prefix: str
    beacon_name: str
    pixel_name: str
    script_name: str


async def run(
    clients: GatewayClients,
    options: GatewayOptions,
    limits: RequestLimits,
    addresses: ClientAddressFinder,
    server_options: ServerOptions,
) -> None:
    """Serve until SIGTERM; then finish the requests, the commits and the publishing, in this order."""
    publisher = BatchPublisher(clients.broker, clients.pool)
    beside = CacheAside(clients.redis)
    structures = EventStructureLookup(beside, clients.pool)
    retention = RetentionLookup(clients.pool)
    commits = GroupCommit(
        clients.store,
        (publisher.enqueue, EventMetrics(structures.index).count),
        deadline_s=options.commit_deadline_s,
        buffer_events=options.buffer_events,
        buffer_bytes=options.buffer_bytes,
    )
    keys = ApiKeyLookup(
        beside, clients.pool, clients.changes, ttl_s=options.cache_ttl_s, wait_s=options.commit_deadline_s
    )
    health = Health(
        SERVICE,
        {
            "postgres": lambda: postgres.ping(clients.pool),
            "structures": structures.ping,
            "retention": retention.ping,
        },
        {"redis": lambda: ping_redis(clients.redis), "rabbitmq": clients.broker.ping},
    )
    rate_limiter = RateLimiter(clients.redis)
    rejected_events = RejectedEventWriter(clients.pool)
    unknown_senders = UnknownSenders(
        bodies_bytes=limits.bodies_bytes, body_bytes=limits.body_bytes, inflated_bytes=limits.inflated_bytes
    )
    ingestion = Ingestion(
        keys,
        structures,
        retention,
        commits,
        rate_limiter,
        limits,
        rejected_events,
        DryRunCommit(clients.pool),
        addresses,
        unknown_senders,
    )
    names = BrowserRouteNames(options.beacon_name, options.pixel_name, options.script_name)
    app = create_app(ingestion, SdkRoutes(ingestion, options.sdk_prefix), health, names)
    fast_path = SingleEventFastPath(keys, structures.index, retention, commits, rate_limiter, limits, unknown_senders)
    fast_path_handlers = {path: LoadShedder(path, commits, keys).handle for path in app.paths}
    fast_path_handlers[INGEST_PATH] = LoadShedder(INGEST_PATH, commits, keys, fast_path.handle).handle
    async with asyncio.TaskGroup() as work:
        publishing = work.create_task(publisher.run(lambda: health.record_heartbeat("publish", 60)))
        committing = work.create_task(commits.run(lambda: health.record_heartbeat("commit", 60)))
        async with process.run_in_background(
            make_invalidation_listener(clients.redis, beside, keys, structures).run(),
            clients.changes.run(),
            keys.run_last_used_updates(),
            structures.run(),
            retention.run(),
            rejected_events.run(),
            StalledCopies(clients.pool, APPLICATION_NAME).run(),
        ):
            await server.serve(app, health, server_options, fast_path_handlers)
        await rejected_events.flush()
        commits.close()
        await committing
        publisher.close()
        await publishing
