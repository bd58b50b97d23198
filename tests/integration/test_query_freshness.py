"""The freshness of query's responses: their `meta`, the cache, and that a slow Redis holds nothing up."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
DECEMBER = {"startDate": "2025-12-01T00:00:00Z", "endDate": "2025-12-31T23:59:59Z"}
WAITING = """
select exists (select
                 from pg_locks
                where not granted
                  and database = (select oid from pg_database where datname = current_database()))
"""


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """Query alone; it does not give up Redis where a machine is busy."""
    async with run_services(stack, "query", settings={"TRACKING_REDIS_TIMEOUT_S": str(PATIENCE_S)}) as services:
        yield services


@pytest.fixture
async def system(stack: Stack) -> System:
    """A system that query knows."""
    return await add_system(stack)


@pytest.fixture
async def client(services: ServiceProcesses, stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sees all partners; query caches from the start, as it hears invalidations."""
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    async with http_client(base_url=services.url("query"), headers=headers) as client:
        of_nobody = of(System()) + "/statistics"
        await until(lambda: ask(client, of_nobody), lambda answer: answer["meta"]["cached"])
        yield client


def of(system: System) -> str:
    return f"/api/events/partner-system/{system.id}"


async def ask(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    response = await client.get(path, params=DECEMBER | parameters)
    assert response.status_code == 200, response.text
    return response.json()


async def test_how_far_behind_an_answer_is_stands_beside_it(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    owner = await stack.read()
    now = datetime.now(UTC)
    for consumer, behind_s in (("projector", 10), ("statistics", 60)):
        await owner.execute(
            "insert into read.consumer_progress values ($1, $2, 0, now())", consumer, now - timedelta(seconds=behind_s)
        )

    counted = (await ask(client, of(system) + "/statistics"))["meta"]
    raw = (await ask(client, of(system), userId="user_1"))["meta"]

    assert datetime.fromisoformat(counted["asOf"]) == now - timedelta(seconds=60)
    assert 60 <= counted["lagSeconds"] < 75
    assert (counted["source"], raw["source"]) == ("rollup+raw", "raw")
    assert 10 <= raw["lagSeconds"] < 25


@pytest.mark.parametrize(
    ("path", "table", "is_cached"),
    [
        ("", "read.tracking_events_read_model", False),
        ("", "read.event_counts_hourly", False),
        ("/statistics", "read.event_counts_hourly", False),
        ("/statistics", "read.event_counts_daily", False),
        ("/statistics", "read.range_versions", True),
    ],
)
async def test_an_answer_never_claims_to_be_newer_than_its_data(
    client: httpx.AsyncClient, stack: Stack, system: System, path: str, table: str, is_cached: bool
) -> None:
    holder, relay, then = await stack.read(), await stack.read(), NOON
    for consumer in ("projector", "statistics"):
        await relay.execute("insert into read.consumer_progress values ($1, $2, 0, now())", consumer, then)
    await add_events(stack, system, [Seen(NOON)])
    if is_cached:
        await ask(client, of(system) + path)

    async with asyncio.TaskGroup() as tasks:
        async with holder.transaction():
            await holder.execute(f"lock table {table} in access exclusive mode")
            asked = tasks.create_task(ask(client, of(system) + path))
            await until(lambda: relay.fetchval(WAITING), bool)
            await relay.execute("update read.consumer_progress set applied_through = now()")

    meta = asked.result()["meta"]
    assert (datetime.fromisoformat(meta["asOf"]), meta["cached"]) == (then, is_cached)


async def test_a_cached_answer_is_used_only_while_nothing_of_its_range_has_changed(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    path = of(system) + "/statistics"
    await add_events(stack, system, [Seen(NOON)])

    async def answer() -> tuple[int, bool]:
        found = await ask(client, path)
        return found["totalEvents"], found["meta"]["cached"]

    assert [await answer() for _ in range(2)] == [(1, False), (1, True)]
    await add_events(stack, system, [Seen(NOON + timedelta(days=40))])
    await add_events(stack, await add_system(stack), [Seen(NOON)])
    assert await answer() == (1, True)
    await add_events(stack, system, [Seen(NOON + timedelta(days=7))])
    assert [await answer() for _ in range(2)] == [(2, False), (2, True)]


@asynccontextmanager
async def between(url: str, flows: asyncio.Event) -> AsyncIterator[str]:
    """An address that leads to `url`'s; nothing passes, and nobody is told so, while `flows` is not set."""
    parts = urlsplit(url)
    address, _, port = parts.netloc.rpartition(":")
    open_writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await flows.wait()
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection(parts.hostname, int(port))
        open_writers.extend((writer, to_there))
        await asyncio.gather(copy(reader, to_there), copy(there, writer), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1")
    try:
        credentials = address.rpartition("@")[0]
        own = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield urlunsplit(parts._replace(netloc=f"{credentials}@{own}" if credentials else own))
    finally:
        flows.set()
        server.close()
        for writer in open_writers:
            writer.close()


async def test_a_redis_that_hangs_holds_up_no_answer_for_long(stack: Stack, system: System) -> None:
    await add_events(stack, system, [Seen(NOON)])
    headers = {"Authorization": f"Bearer {await add_token(stack)}"}
    flows, path = asyncio.Event(), of(system) + "/statistics"
    flows.set()

    async with (
        between(stack.redis_url, flows) as url,
        run_services(stack, "query", settings={"TRACKING_REDIS_URL": url, "TRACKING_REDIS_TIMEOUT_S": "2"}) as services,
        http_client(base_url=services.url("query"), headers=headers) as client,
    ):
        await until(lambda: ask(client, path), lambda answer: answer["meta"]["cached"])
        flows.clear()
        answers, seconds = [], []
        for _ in range(40):
            started = time.monotonic()
            answers.append((await ask(client, path))["totalEvents"])
            seconds.append(time.monotonic() - started)
        flows.set()
        await until(lambda: ask(client, path), lambda answer: answer["meta"]["cached"])

    assert answers == [1] * 40
    # the first waits until its two seconds are up, those of the pause after it do not
    assert max(seconds) < 6
    assert sorted(seconds)[20] < 1.5
