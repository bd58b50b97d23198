"""Partner systems share the capacity of the gateway: one that sends too much takes nothing from its neighbours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

BUFFER = 60
SETTINGS = {"TRACKING_BUFFER_EVENTS": str(BUFFER), "TRACKING_COMMIT_DEADLINE_S": "60"}


@pytest.fixture
async def senders(stack: Stack) -> list[Registered]:
    """Three systems of three partners."""
    return [await register_system(stack, name) for name in ("Loud", "Quiet", "Third")]


@asynccontextmanager
async def stuck(stack: Stack) -> AsyncIterator[None]:
    """The write database commits nothing meanwhile."""
    owner = await stack.write()
    async with owner.transaction():
        await owner.execute("lock table write.tracking_events in access exclusive mode")
        yield


async def post(client: httpx.AsyncClient, sender: Registered, events: int = 1, user: str = "u") -> httpx.Response:
    headers = {"X-Api-Key": sender.api_key}
    if events == 1:
        return await client.post("/api/events/ingest", json={"eventName": "e", "userId": user}, headers=headers)
    body = [{"eventName": "e", "userId": user} for _ in range(events)]
    return await client.post("/api/events/batch", json={"events": body}, headers=headers)


async def make_known(client: httpx.AsyncClient, senders: list[Registered]) -> None:
    """The gateway looks up a key when it is first used."""
    for sender in senders:
        assert (await post(client, sender)).status_code == 202


def start(client: httpx.AsyncClient, sender: Registered, number: int) -> list[asyncio.Task[httpx.Response]]:
    return [asyncio.create_task(post(client, sender)) for _ in range(number)]


async def reach_answered(tasks: list[asyncio.Task[httpx.Response]], number: int) -> list[httpx.Response]:
    """Wait until so many are answered; while the database is stuck these are the rejected ones."""

    async def answered() -> list[httpx.Response]:
        return [task.result() for task in tasks if task.done()]

    return await until(answered, lambda found: len(found) >= number)


async def test_a_system_that_sends_too_much_is_rejected_and_its_neighbour_is_not(
    stack: Stack, senders: list[Registered]
) -> None:
    loud, quiet, third = senders
    async with (
        run_services(stack, "gateway", settings=SETTINGS) as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        await make_known(client, senders)
        async with stuck(stack):
            flood = start(client, loud, 2 * BUFFER)
            rejected = await reach_answered(flood, BUFFER)
            neighbours = [*start(client, quiet, 5), asyncio.create_task(post(client, quiet, events=5))]
            neighbours += start(client, third, 2)
            rejected += await reach_answered(start(client, loud, 10), 10)
        answers = await asyncio.gather(*flood)
        others = await asyncio.gather(*neighbours)

    assert {(answer.status_code, answer.json()["code"]) for answer in rejected} == {(503, "overloaded")}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in rejected)
    # a lone system holds all that the setting says, and not an event more
    assert [answer.status_code for answer in answers].count(202) == BUFFER
    assert {answer.status_code for answer in others} == {202}


async def test_a_large_batch_of_a_system_that_holds_its_share_is_rejected_before_it_is_decoded(
    stack: Stack, senders: list[Registered]
) -> None:
    loud, quiet, _ = senders
    async with (
        run_services(stack, "gateway", settings=SETTINGS) as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        await make_known(client, senders)
        async with stuck(stack):
            flood = start(client, loud, BUFFER + 1)
            await reach_answered(flood, 1)
            unreadable = {
                sender.api_key: await client.post(
                    "/api/events/batch", content=b'{"events": [', headers={"X-Api-Key": sender.api_key}
                )
                for sender in (loud, quiet)
            }
        await asyncio.gather(*flood)

    assert unreadable[loud.api_key].status_code == 503
    assert unreadable[quiet.api_key].status_code == 400


async def test_the_events_of_a_system_that_sends_little_do_not_wait_behind_those_of_one_that_sends_much(
    stack: Stack, senders: list[Registered]
) -> None:
    loud, quiet, _ = senders
    settings = {**SETTINGS, "TRACKING_BUFFER_EVENTS": "20000"}
    async with (
        run_services(stack, "gateway", settings=settings) as services,
        http_client(base_url=services.url("gateway"), timeout=60) as client,
    ):
        await make_known(client, senders)
        async with stuck(stack):
            # each is a message of its own, and three are in hand
            flood = [asyncio.create_task(post(client, loud, events=900, user="loud")) for _ in range(12)]
            before = "tracking_gateway_buffered_events"

            async def buffered() -> float:
                lines = (await client.get("/metrics")).text.splitlines()
                return next(float(line.split()[1]) for line in lines if line.startswith(f"{before} "))

            await until(buffered, lambda number: number >= 12 * 900)
            little = asyncio.create_task(post(client, quiet, user="quiet"))
            await until(buffered, lambda number: number >= 12 * 900 + 1)
        assert (await little).status_code == 202
        await asyncio.gather(*flood)

    owner = await stack.write()
    order = await owner.fetch(
        "select distinct b.id, e.partner_system_id = $1 as is_quiet from write.event_batches b "
        "cross join unnest(b.event_ids) as claimed (id) join write.tracking_events e on e.id = claimed.id "
        "where e.user_id in ('loud', 'quiet') order by b.id",
        quiet.system_id,
    )
    is_quiet = [row["is_quiet"] for row in order]
    assert is_quiet.count(True) == 1
    assert is_quiet.index(True) <= 5
