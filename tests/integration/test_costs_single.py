"""The cost of a single event for the gateway in function calls, from its request's bytes to its response's bytes."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from services.gateway.commit.group_commit import CommittedBatch, GroupCommit
from services.gateway.commit.store import EventStore
from services.gateway.http import clock
from services.gateway.http.fast_path import SingleEventFastPath
from services.gateway.http.request import RequestLimits
from services.gateway.http.unknown_senders import UnknownSenders
from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from services.gateway.lookups.rate_limits import RateLimiter
from services.gateway.lookups.retention import RetentionLookup
from tests.support.polling import PATIENCE_S
from tests.support.registry import Registered, register_system
from tests.support.stack import Stack
from tests.support.wire_counter import CallCounter
from tracking.infra import postgres
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import open_redis
from tracking.tables.credential_changes import CredentialChanges

# 142 by Python 3.11; of them about 43 decide it and 18 encode it for the database
MOST_CALLS = 149
FEW, MANY = 200, 400
LIMITS = RequestLimits(5_000_000, 100_000_000, 20_000_000, 100, 65_536, 2_500)


class Answers:
    """Where answers are written; `whole` once there are enough of them."""

    def __init__(self, number: int) -> None:
        self._missing = number
        self.whole = asyncio.Event()

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        assert status == 202
        self._missing -= 1
        if not self._missing:
            self.whole.set()


class FastPathGateway:
    """The fast path of a single event with everything behind it, but without HTTP in front of it."""

    def __init__(self, singles: SingleEventFastPath, commits: list[CommittedBatch]) -> None:
        self._singles = singles
        self._commits = commits

    async def calls(self, sender: Registered, number: int) -> int:
        """Of so many requests that are taken in one turn of the event loop, and so committed together."""
        answers = cast(Any, Answers(number))
        headers = [(b"host", b"t"), (b"x-api-key", sender.api_key.encode()), (b"content-type", b"application/json")]
        bodies = [json.dumps(an_event(n)).encode() for n in range(number)]
        self._commits.clear()
        with CallCounter() as calls:
            for body in bodies:
                self._singles.handle(headers, body, answers)
            await answers.whole.wait()
        assert [len(batch.events) for batch in self._commits] == [number]
        return calls.number


def an_event(number: int) -> dict[str, Any]:
    return {
        "eventName": f"name_{number % 7}",
        "eventTimestamp": f"2026-11-23T07:{number // 60 % 60:02}:{number % 60:02}.123Z",
        "userId": f"user_{number // 5}",
        "anonymousId": f"visitor_{number // 5}",
        "eventProperties": {"page": f"/products/{number}", "price": 49.9 + number, "tags": ["new", "sale"]},
    }


UNKNOWN = UnknownSenders(
    bodies_bytes=LIMITS.bodies_bytes, body_bytes=LIMITS.body_bytes, inflated_bytes=LIMITS.inflated_bytes
)


@asynccontextmanager
async def a_gateway(stack: Stack, sender: Registered) -> AsyncIterator[FastPathGateway]:
    """In this process, and it knows the key."""
    url = stack.write_url("gateway")
    pool = await postgres.open_pool(
        url, service="test", connect_timeout_s=PATIENCE_S, query_timeout_s=PATIENCE_S, size=1
    )
    redis = open_redis(stack.redis_url, timeout_s=PATIENCE_S)
    store = EventStore(url, connect_timeout_s=PATIENCE_S)
    committed: list[CommittedBatch] = []
    on_commit = [committed.append]
    commits = GroupCommit(store, on_commit, deadline_s=PATIENCE_S, buffer_events=10_000, buffer_bytes=10_000_000)
    beside = CacheAside(redis)
    changes = CredentialChanges(url, service="test")
    keys = ApiKeyLookup(beside, pool, changes, ttl_s=600, wait_s=PATIENCE_S)
    structures = EventStructureLookup(beside, pool)
    running = asyncio.create_task(commits.run(lambda: None))
    try:
        # once and for all, so that no reading is counted among the calls of an event
        await changes.poll()
        changes.apply_reading([], math.inf)
        await keys.authenticate(sender.api_key, clock.get_receive_time())
        yield FastPathGateway(
            SingleEventFastPath(
                keys, structures.index, RetentionLookup(pool), commits, RateLimiter(redis), LIMITS, UNKNOWN
            ),
            committed,
        )
    finally:
        commits.close()
        await running
        changes.close()
        store.close()
        await redis.aclose()
        await postgres.close_pool(pool)


async def test_a_single_event_costs_no_more_calls_than_before(stack: Stack) -> None:
    sender = await register_system(stack)
    async with a_gateway(stack, sender) as gateway:
        await gateway.calls(sender, MANY)

        few, many = await gateway.calls(sender, FEW), await gateway.calls(sender, MANY)

    calls = (many - few) / (MANY - FEW)
    assert calls <= MOST_CALLS, f"a single event: {calls:.1f} calls, where {MOST_CALLS} were enough before"
