"""The cost of an event for the gateway in statements, round trips and messages. The numbers are those of today."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.raw_http import exchange, request
from tests.support.registry import Registered, register_system
from tests.support.stack import Stack
from tests.support.wire_counter import WireProxy, at_most, counted

# begin with both COPY, commit; later the note that it was published
COMMIT_STATEMENTS = 3
# the server says of each COPY that it is ready, though nobody waits for it
COMMIT_ROUND_TRIPS = 5
# three side by side, and one for all that waited meanwhile
MOST_COMMITS = 4


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


class GatewayUnderTest:
    """A gateway that has seen the key, and what it says to its servers."""

    def __init__(
        self, client: httpx.AsyncClient, stack: Stack, sender: Registered, wires: Mapping[str, WireProxy]
    ) -> None:
        self._client = client
        self._stack = stack
        self._sender = sender
        self.wires = wires

    async def batch(self, events: int) -> None:
        """Send one request; returns when the batch is marked as published."""
        body = {"apiKey": self._sender.api_key, "events": [an_event(number) for number in range(events)]}
        await self._post("/api/events/batch", body)
        await self.wait_until_published()

    async def single(self) -> None:
        """As `batch`, by the route for one event."""
        await self._post("/api/events/ingest", {"apiKey": self._sender.api_key} | an_event(0))
        await self.wait_until_published()

    async def is_key_kept(self) -> bool:
        """A request has found the key in the process: neither Redis nor the database was asked for it."""
        before = self._count_key_lookups()
        await self.batch(2)
        return self._count_key_lookups() == before

    def _count_key_lookups(self) -> int:
        asked = self.wires["write"].said.statements
        of_keys = sum(number for text, number in asked.items() if "from write.api_keys" in text)
        return self.wires["redis"].said.statements["GET"] + of_keys

    async def singles_at_once(self, number: int) -> int:
        """So many requests that all wait for the database at the same time; how many commits that took."""
        before = await self._commits()
        async with asyncio.TaskGroup() as requests:
            # on the wire: a gateway waits for a lock for a moment only, and then tries again
            with self.wires["write"].held():
                for n in range(number):
                    requests.create_task(self._on_its_own_connection(n))
                await until(self._waiting, lambda waiting: waiting == number)
        await self.wait_until_published()
        return await self._commits() - before

    async def wait_until_published(self) -> None:
        """Wait until nothing is left to publish or to mark as published."""
        owner = await self._stack.write()
        unpublished = "select count(*) from write.event_batches where published_at is null"
        await until(lambda: owner.fetchval(unpublished), lambda left: left == 0, every_s=0.02)

    async def _post(self, path: str, body: object) -> None:
        response = await self._client.post(path, content=json.dumps(body))
        assert response.status_code == 202, response.text

    async def _on_its_own_connection(self, number: int) -> None:
        # as bytes: with hundreds of connections httpx would keep this process, and so the wires, busy for seconds
        body = json.dumps({"apiKey": self._sender.api_key} | an_event(number)).encode()
        answer = await exchange(str(self._client.base_url), request("POST", b"/api/events/ingest", body=body))
        assert answer.status == 202, answer

    async def _waiting(self) -> int:
        lines = (await self._client.get("/metrics")).text.splitlines()
        [value] = [line.split()[1] for line in lines if line.startswith("tracking_gateway_buffered_events ")]
        return int(float(value))

    async def _commits(self) -> int:
        return int(await (await self._stack.write()).fetchval("select count(*) from write.event_batches"))


def an_event(number: int) -> dict[str, Any]:
    return {"eventName": f"name_{number % 7}", "anonymousId": f"visitor_{number}", "eventProperties": {"n": number}}


@asynccontextmanager
async def a_gateway(stack: Stack, sender: Registered) -> AsyncIterator[GatewayUnderTest]:
    """Warm: connections are open, statements prepared, the key is in the process cache."""
    # longer than any test: what a look-up costs when an entry ends is not of an event
    settings = {"TRACKING_CACHE_TTL_S": "600", "TRACKING_COMMIT_DEADLINE_S": str(PATIENCE_S)}
    async with counted(stack, "gateway", settings) as (services, wires):
        async with http_client(base_url=services.url("gateway")) as client:
            gateway = GatewayUnderTest(client, stack, sender, wires)
            await until(gateway.is_key_kept, bool)
            await gateway.singles_at_once(200)
            for wire in wires.values():
                wire.take()
            yield gateway


@pytest.fixture
async def gateway(stack: Stack, sender: Registered) -> AsyncIterator[GatewayUnderTest]:
    """Of a system without a rate limit."""
    async with a_gateway(stack, sender) as gateway:
        yield gateway


async def test_a_batch_costs_the_same_however_many_events_it_has(gateway: GatewayUnderTest) -> None:
    for events in (1, 20, 200, 400):
        await gateway.batch(events)

        what = f"a batch of {events} events"
        said = gateway.wires["write"].take()
        at_most(said, what, statements=COMMIT_STATEMENTS, round_trips=COMMIT_ROUND_TRIPS)
        published = gateway.wires["rabbitmq"].take()
        assert published.statements == {"publish": 1}, f"{what}: not one message\n{published}"


async def test_a_single_event_alone_costs_one_commit(gateway: GatewayUnderTest) -> None:
    await gateway.single()

    at_most(
        gateway.wires["write"].take(),
        "a single event",
        statements=COMMIT_STATEMENTS,
        round_trips=COMMIT_ROUND_TRIPS,
    )
    published = gateway.wires["rabbitmq"].take()
    assert published.statements == {"publish": 1}, f"not one message\n{published}"


async def test_single_events_that_come_together_share_commits_however_many_they_are(gateway: GatewayUnderTest) -> None:
    for number in (200, 400):
        commits = await gateway.singles_at_once(number)

        what = f"{number} single events at once"
        assert commits <= MOST_COMMITS, f"{what}: {commits} commits, where {MOST_COMMITS} were enough before"
        said = gateway.wires["write"].take()
        assert max(said.statements.values()) <= commits, f"{what}: more than once a commit, of {commits}\n{said}"
        published = gateway.wires["rabbitmq"].take()
        assert published.statements == {"publish": commits}, f"{what}: not a message a commit\n{published}"


async def test_a_known_key_is_not_looked_up(gateway: GatewayUnderTest) -> None:
    for _ in range(3):
        await gateway.single()
        await gateway.batch(10)

    said = gateway.wires["redis"].take()
    assert said.number == 0, f"Redis is asked for each request\n{said}"


async def test_redis_is_asked_once_for_what_a_rate_limit_leases(stack: Stack, sender: Registered) -> None:
    """A fiftieth of a second of the rate is 1 000 events here."""
    owner = await stack.write()
    settings = {"rateLimit": {"eventsPerSecond": 50_000, "burst": 50_000}}
    await owner.execute("update write.partner_systems set settings = $1", json.dumps(settings))
    async with a_gateway(stack, sender) as gateway:
        await gateway.batch(999)
        gateway.wires["redis"].take()

        for _ in range(5):
            await gateway.single()
            await gateway.batch(100)

        said = gateway.wires["redis"].take()
        assert said.number <= 1, f"505 events with 1 000 leased at a time: Redis is asked more than once\n{said}"
