"""Heavy questions to query: they have lanes, limits and an end, and nobody else waits for them.

A question is heavy here because a lock holds it up, on one month of the events.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
DECEMBER = {"startDate": "2025-12-01", "endDate": "2025-12-31"}
NOVEMBER = {"startDate": "2025-11-01", "endDate": "2025-11-30"}
EVENTS = 60
# a question that has begun neither ends by itself nor is given up while a test runs
PATIENT = {"TRACKING_QUERY_TIMEOUT_S": str(2 * PATIENCE_S)}
COUNT_WAITING = """
select count(*)
  from pg_locks
 where not granted
   and database = (select oid from pg_database where datname = current_database())
"""


@pytest.fixture
async def system(stack: Stack) -> System:
    """With events in November and December."""
    system = await add_system(stack)
    for month in (timedelta(days=30), timedelta(0)):
        await add_events(stack, system, [Seen(NOON - month + timedelta(minutes=n)) for n in range(EVENTS)])
    return system


@asynccontextmanager
async def query(stack: Stack, settings: Mapping[str, str]) -> AsyncIterator[ServiceProcesses]:
    async with run_services(stack, "query", settings=settings) as services:
        yield services


async def client_of(stack: Stack, services: ServiceProcesses) -> httpx.AsyncClient:
    """A client with a token of its own."""
    headers = {"Authorization": f"Bearer {await add_token(stack)}"}
    return http_client(base_url=services.url("query"), headers=headers, timeout=2 * PATIENCE_S)


def of(system: System) -> str:
    return f"/api/events/partner-system/{system.id}"


@asynccontextmanager
async def december_locked(stack: Stack) -> AsyncIterator[None]:
    """Nothing can read December's events."""
    owner = await stack.read()
    async with owner.transaction():
        await owner.execute("lock table read.tracking_events_read_model_2025_12 in access exclusive mode")
        yield


async def count_waiting(stack: Stack, at_least: int) -> None:
    """Wait until so many statements wait for the lock."""
    owner = await stack.read()
    await until(lambda: owner.fetchval(COUNT_WAITING), lambda number: number >= at_least)


async def test_questions_that_take_long_hold_up_nobody_else(stack: Stack, system: System) -> None:
    async with query(stack, PATIENT | {"TRACKING_QUESTION_WAIT_S": "1"}) as services:
        async with (
            await client_of(stack, services) as busy,
            await client_of(stack, services) as other,
            asyncio.TaskGroup() as tasks,
        ):
            async with december_locked(stack):
                asked = [
                    tasks.create_task(busy.get(of(system) + path, params=DECEMBER | parameters))
                    for path, parameters in (("", {"pageSize": "10"}), ("/statistics", {"uniqueActors": "true"})) * 6
                ]
                await count_waiting(stack, 2)
                # as many as may wait have been told so, and the rest is under way
                await until(lambda: _count_done(asked), lambda number: number == len(asked) - 2)

                ready = await other.get("/health/ready")
                unknown = await other.get(of(system), headers={"Authorization": "Bearer tk_unknown"})
                listed = await other.get(of(system), params=NOVEMBER)
                counted = await other.get(of(system) + "/statistics", params=NOVEMBER | {"uniqueActors": "true"})
                event_id = listed.json()["events"][0]["eventId"]
                other_heavy = tasks.create_task(other.get(of(system), params=DECEMBER))
                await count_waiting(stack, 3)
        answers = [task.result() for task in asked]

    assert (ready.status_code, unknown.status_code, listed.status_code, counted.status_code) == (200, 401, 200, 200)
    assert event_id
    assert counted.json()["uniqueActors"] == 1
    assert other_heavy.result().json()["totalCount"] == EVENTS
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [503] * (len(answers) - 2)
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["code"] == "too_many_questions"
            assert int(answer.headers["Retry-After"]) >= 1


async def _count_done(tasks: list[asyncio.Task[Any]]) -> int:
    return sum(task.done() for task in tasks)


async def test_a_heavy_question_ends_when_its_caller_goes(stack: Stack, system: System) -> None:
    async with query(stack, PATIENT | {"TRACKING_CHEAP_EVENTS": "0"}) as services:
        async with await client_of(stack, services) as client:
            async with december_locked(stack):
                path = of(system) + "/statistics"
                # the counts of whole days are known already, only the actors need the events
                asked = asyncio.create_task(client.get(path, params=DECEMBER | {"uniqueActors": "true"}))
                await count_waiting(stack, 1)
                asked.cancel()
                await asyncio.wait([asked])
                owner = await stack.read()
                await until(lambda: owner.fetchval(COUNT_WAITING), lambda number: number == 0)


async def test_a_question_over_its_budget_is_told_what_it_would_read_and_how_to_narrow(
    stack: Stack, system: System
) -> None:
    async with query(stack, {"TRACKING_MAX_EVENTS": str(EVENTS + 1)}) as services:
        async with await client_of(stack, services) as client:
            both = {"startDate": NOVEMBER["startDate"], "endDate": DECEMBER["endDate"], "uniqueActors": "true"}

            too_many = await client.get(of(system) + "/statistics", params=both)
            narrower = await client.get(of(system) + "/statistics", params=both | NOVEMBER)
            without = await client.get(of(system) + "/statistics", params=both | {"uniqueActors": "false"})

    assert (too_many.status_code, too_many.json()["code"]) == (422, "question_too_costly")
    assert f" {2 * EVENTS} events" in too_many.json()["message"]
    assert len(too_many.json()["details"]) == 3
    assert (narrower.status_code, narrower.json()["uniqueActors"]) == (200, 1)
    assert (without.status_code, without.json()["totalEvents"]) == (200, 2 * EVENTS)


async def test_a_type_of_event_is_looked_for_in_as_many_events_as_a_question_may_read(
    stack: Stack, system: System
) -> None:
    await add_events(stack, system, [Seen(NOON, "rare", user_id="user_1", event_type="alias")])
    both = {"startDate": NOVEMBER["startDate"], "endDate": DECEMBER["endDate"], "eventType": "alias"}
    async with query(stack, {"TRACKING_MAX_EVENTS": str(EVENTS + 1), "TRACKING_CHEAP_EVENTS": "1"}) as services:
        async with await client_of(stack, services) as client:
            too_many = await client.get(of(system), params=both)
            others = [
                await client.get(of(system), params=both | narrower)
                for narrower in (DECEMBER, {"eventName": "rare"}, {"userId": "user_1"}, {"correlationId": "c1"})
            ]

    assert (too_many.status_code, too_many.json()["code"]) == (422, "question_too_costly")
    assert f" {2 * EVENTS + 1} events" in too_many.json()["message"]
    assert [(answer.status_code, answer.json()["totalCount"]) for answer in others] == [(200, 1)] * 4


@pytest.mark.parametrize(
    ("cheap_events", "status", "code"), [(0, 422, "question_too_costly"), (1000, 503, "database_unavailable")]
)
async def test_a_question_that_takes_too_long_is_told_to_narrow_unless_it_reads_little(
    stack: Stack, system: System, cheap_events: int, status: int, code: str
) -> None:
    short = {
        "TRACKING_QUERY_TIMEOUT_S": "0.3",
        "TRACKING_CHEAP_TIMEOUT_S": "0.2",
        "TRACKING_CHEAP_EVENTS": str(cheap_events),
    }
    async with query(stack, short) as services:
        async with await client_of(stack, services) as client:
            async with december_locked(stack):
                answers = [
                    await client.get(of(system), params=DECEMBER | asked)
                    for asked in ({"userId": "nobody"}, {"correlationId": "c1"}, {"isValid": "true"})
                ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(status, code)] * 3


async def test_a_question_that_is_cancelled_leaves_its_connection_to_the_next(stack: Stack, system: System) -> None:
    settings = {"TRACKING_CHEAP_QUESTIONS": "1", "TRACKING_HEAVY_QUESTIONS": "1", "TRACKING_CHEAP_TIMEOUT_S": "0.2"}
    async with query(stack, settings | {"TRACKING_QUERY_TIMEOUT_S": "0.4"}) as services:
        async with await client_of(stack, services) as client:
            async with december_locked(stack):
                held_up = await client.get(of(system), params=DECEMBER)

            async def ask() -> int:
                return (await client.get(of(system), params=DECEMBER)).status_code

            assert held_up.status_code == 503
            # a busy machine may need longer than such short limits
            assert await until(ask, lambda status: status == 200) == 200
            assert (await client.get(f"/api/events/{uuid4()}")).status_code == 404
