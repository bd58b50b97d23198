"""Puts a gateway together from its clients and runs it; `__main__` says with which settings."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.gateway.addresses import Network
from services.gateway.answers import SERVICE, EventCounts
from services.gateway.app import build
from services.gateway.browser import Names
from services.gateway.commit import CommittedBatch, GroupCommit
from services.gateway.intake import Intake
from services.gateway.invalidation import listener
from services.gateway.keys import ApiKeys
from services.gateway.publish import BatchPublisher
from services.gateway.rates import RateLimits
from services.gateway.refusals import RefusedInbox
from services.gateway.rehearsal import Rehearsal
from services.gateway.request import Limits
from services.gateway.sdk import SdkRoutes
from services.gateway.shed import Shed
from services.gateway.single import INGEST_PATH, SingleEvents
from services.gateway.store import EventStore
from services.gateway.structures import Structures
from tracking.infra import postgres, process
from tracking.infra import redis as cache
from tracking.infra.postgres import Pool
from tracking.infra.process import Health, Listening
from tracking.infra.rabbitmq import Publisher


@dataclass(frozen=True, slots=True)
class Clients:
    """What a gateway talks to; `pool` and `store` are of the write database."""

    pool: Pool
    store: EventStore
    redis: Redis
    broker: Publisher


@dataclass(frozen=True, slots=True)
class Choices:
    """What an operator chose, beside the limits of a request; seconds, events and bytes."""

    cache_ttl_s: float
    commit_deadline_s: float
    buffer_events: int
    buffer_bytes: int
    sdk_prefix: str
    beacon_name: str
    pixel_name: str
    script_name: str


async def run(
    clients: Clients, choices: Choices, limits: Limits, trusted_proxies: Sequence[Network], listening: Listening
) -> None:
    """Serve until SIGTERM; then finish requests, then commits, then publishes."""
    publisher = BatchPublisher(clients.broker, clients.pool)
    structures = Structures(clients.redis, clients.pool)
    counts = EventCounts(structures)

    def on_commit(batch: CommittedBatch) -> None:
        publisher.offer(batch)
        counts.count(batch)

    commits = GroupCommit(
        clients.store,
        on_commit,
        deadline_s=choices.commit_deadline_s,
        buffer_events=choices.buffer_events,
        buffer_bytes=choices.buffer_bytes,
    )
    keys = ApiKeys(clients.redis, clients.pool, ttl_s=choices.cache_ttl_s)
    health = Health(
        SERVICE,
        {"postgres": lambda: postgres.ping(clients.pool), "structures": structures.ping},
        {"redis": lambda: cache.ping(clients.redis), "rabbitmq": clients.broker.ping},
    )
    rates = RateLimits(clients.redis)
    inbox = RefusedInbox(clients.pool)
    intake = Intake(keys, structures, commits, rates, limits, inbox, Rehearsal(clients.pool), trusted_proxies)
    names = Names(choices.beacon_name, choices.pixel_name, choices.script_name)
    app = build(intake, SdkRoutes(intake, choices.sdk_prefix), health, names)
    singles = SingleEvents(keys, structures, commits, rates, limits)
    direct = {path: Shed(path, commits).take for path in app.paths}
    direct[INGEST_PATH] = Shed(INGEST_PATH, commits, singles.take).take
    async with asyncio.TaskGroup() as work:
        publishing = work.create_task(publisher.run(lambda: health.beat("publish", 60)))
        committing = work.create_task(commits.run(lambda: health.beat("commit", 60)))
        async with process.running(
            listener(clients.redis, keys, structures).run(),
            keys.mark_used_regularly(),
            structures.run(),
            inbox.run(),
        ):
            await process.serve(app, health, listening, direct)
        await inbox.flush()
        commits.close()
        await committing
        publisher.close()
        await publishing
