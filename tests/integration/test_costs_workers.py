"""The cost of a group of batches for the workers in statements and round trips. The numbers are those of today."""

import json
from typing import Any

import pytest

from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tests.support.wire_counter import WireProxy, WireTraffic, at_most, counted
from tracking.contracts import topology
from tracking.infra import rabbitmq

BATCHES = 12
# begin, inbox, effect, versions of days, commit; the effect of statistics is on hours and on days
GROUP_STATEMENTS = {"projector": 5, "statistics": 6}
# the projector's effect is a COPY, which takes two: the server asks for the data first
GROUP_ROUND_TRIPS = {"projector": 6, "statistics": 6}
# what arrived first is a group of its own; of the others a few may come late
MOST_GROUPS = 3


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


async def send(gateway: ServiceProcesses, sender: Registered, events: int, kind: str = "track") -> None:
    """BATCHES requests one after the other, so each is a message; all within a day."""
    async with http_client(base_url=gateway.url("gateway")) as client:
        for batch in range(BATCHES):
            body = {"apiKey": sender.api_key, "events": [an_event(batch, n, kind) for n in range(events)]}
            response = await client.post("/api/events/batch", content=json.dumps(body))
            assert response.status_code == 202, response.text


def an_event(batch: int, number: int, kind: str) -> dict[str, Any]:
    return {
        "eventName": f"name_{number % 7}",
        "eventType": kind,
        "eventTimestamp": f"2026-11-23T08:{number % 60:02}:00Z",
        "userId": f"user_{number % 10}",
        "anonymousId": f"visitor_{batch}_{number}",
    }


async def applied(stack: Stack, consumer: str) -> tuple[int, int]:
    """Batches and groups so far; those of a group have the time of its transaction."""
    owner = await stack.read()
    row = await owner.fetchrow(
        "select count(*), count(distinct applied_at) from read.applied_batches where consumer = $1", consumer
    )
    return (int(row[0]), int(row[1])) if row else (0, 0)


class Worker:
    """One that is given groups of a known size, and what it says to its database and the broker."""

    def __init__(self, stack: Stack, name: str, gateway: ServiceProcesses, database: WireProxy) -> None:
        self._stack = stack
        self._name = name
        self._gateway = gateway
        self._database = database

    async def take(self, sender: Registered, events: int, kind: str = "track") -> tuple[int, WireTraffic]:
        """BATCHES messages that wait for it together: its groups, and what it said to the database."""
        owner = await self._stack.read()
        before_batches, before_groups = await applied(self._stack, self._name)
        async with owner.transaction():
            await owner.execute("lock table read.applied_batches in access exclusive mode")
            await send(self._gateway, sender, events, kind)
            await self._all_published()
            await self._all_delivered()
        wanted = before_batches + BATCHES
        _, groups = await until(lambda: applied(self._stack, self._name), lambda now: now[0] == wanted, every_s=0.02)
        return groups - before_groups, self._database.take()

    async def _all_published(self) -> None:
        """The gateway publishes after its answer, so an empty queue alone would prove nothing."""
        write = await self._stack.write()
        unpublished = "select count(*) from write.event_batches where published_at is null"
        await until(lambda: write.fetchval(unpublished), lambda left: left == 0)

    async def _all_delivered(self) -> None:
        connection = await rabbitmq.connect(self._stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
        async with connection:
            channel = await connection.channel()
            queue = topology.get_queue_names(self._name).work
            await until(lambda: rabbitmq.get_queue_depth(channel, queue, PATIENCE_S), lambda waiting: waiting == 0)


@pytest.mark.parametrize("name", ["projector", "statistics"])
async def test_a_group_costs_the_same_however_many_batches_and_events_it_has(
    stack: Stack, sender: Registered, name: str
) -> None:
    async with counted(stack, name) as (_, wires), run_services(stack, "gateway") as gateway:
        worker = Worker(stack, name, gateway, wires["read"])
        await worker.take(sender, 3)
        for events in (20, 200):
            groups, said = await worker.take(sender, events)

            what = f"{name}, {groups} groups of {BATCHES} batches of {events} events"
            assert groups <= MOST_GROUPS, f"{what}: what waits is not taken together"
            at_most(
                said, what, statements=GROUP_STATEMENTS[name] * groups, round_trips=GROUP_ROUND_TRIPS[name] * groups
            )


async def test_links_between_ids_cost_a_group_one_statement_more(stack: Stack, sender: Registered) -> None:
    async with counted(stack, "projector") as (_, wires), run_services(stack, "gateway") as gateway:
        worker = Worker(stack, "projector", gateway, wires["read"])
        await worker.take(sender, 3, "identify")

        groups, said = await worker.take(sender, 100, "identify")

        at_most(
            said,
            f"projector, {groups} groups of {BATCHES} batches of 100 identify events",
            statements=(GROUP_STATEMENTS["projector"] + 1) * groups,
            round_trips=(GROUP_ROUND_TRIPS["projector"] + 1) * groups,
        )
