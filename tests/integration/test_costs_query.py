"""The cost of a request for query and admin in statements and round trips. The numbers are those of today.

asyncpg adds one to each use of its pool, the reset of a connection that is given back; these are not counted.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.admin_api import a_partner, a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.stack import Stack
from tests.support.wire_counter import WireProxy, WireTraffic, at_most, cheapest, counted

START = datetime(2025, 12, 1, tzinfo=UTC)


@pytest.fixture
async def system(stack: Stack) -> System:
    """With an event each hour of December."""
    system = await add_system(stack)
    await add_events(stack, system, [Seen(START + timedelta(hours=n)) for n in range(31 * 24)])
    return system


class Query:
    """Query, and what each request makes it say."""

    def __init__(self, client: httpx.AsyncClient, wires: Mapping[str, WireProxy]) -> None:
        self._client = client
        self._wires = wires

    async def ask(self, path: str, **parameters: Any) -> tuple[Any, WireTraffic, WireTraffic]:
        """The answer, what was said to the database and what to Redis."""
        response = await self._client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json(), self._wires["read"].take(), self._wires["redis"].take()


@pytest.fixture
async def query(stack: Stack) -> AsyncIterator[Query]:
    """Asked by a token that it knows."""
    headers = {"Authorization": f"Bearer {await add_token(stack)}"}
    # longer than any test: what a look-up costs when an entry ends is not of a request
    async with counted(stack, "query", {"TRACKING_TOKEN_CACHE_TTL_S": "600"}) as (services, wires):
        async with http_client(base_url=services.url("query"), headers=headers) as client:

            async def is_kept() -> bool:
                """Redis is asked for a token once invalidations are heard; then the entry is kept for its time."""
                await client.get(f"/api/events/{uuid4()}")
                return wires["redis"].said.statements["GET"] > 0

            await until(is_kept, bool)
            yield Query(client, wires)


def through(day: int) -> dict[str, str]:
    return {"startDate": "2025-12-01T00:00:00Z", "endDate": f"2025-12-{day:02}T23:59:59Z"}


def of(system: System) -> str:
    return f"/api/events/partner-system/{system.id}"


async def test_a_list_costs_the_same_however_long_it_is(query: Query, system: System) -> None:
    await query.ask(of(system), **through(2), pageSize=1)
    for days, size in ((3, 10), (31, 100), (31, 500)):
        _, database, redis = await query.ask(of(system), **through(days), pageSize=size)

        at_most(database, f"a list of {size}", statements=3, round_trips=3)
        at_most(redis, f"a list of {size}: Redis", statements=0, round_trips=0)


async def test_an_event_by_its_id_is_one_question(query: Query, system: System) -> None:
    page, _, _ = await query.ask(of(system), **through(31), pageSize=2)
    first, second = (event["eventId"] for event in page["events"])
    await query.ask(f"/api/events/{first}")

    _, database, redis = await query.ask(f"/api/events/{second}")

    at_most(database, "an event by its id", statements=1, round_trips=1)
    at_most(redis, "an event by its id: Redis", statements=0, round_trips=0)


async def test_statistics_cost_the_same_for_a_day_and_for_a_month(query: Query, system: System) -> None:
    await query.ask(f"{of(system)}/statistics", **through(2))
    for days in (1, 31):
        answer, database, redis = await query.ask(f"{of(system)}/statistics", **through(days))

        assert not answer["meta"]["cached"]
        at_most(database, f"statistics of {days} days", statements=5, round_trips=5)
        at_most(redis, f"statistics of {days} days: Redis", statements=2, round_trips=2)


async def test_cached_statistics_cost_their_version_alone(query: Query, system: System) -> None:
    for _ in range(2):
        await query.ask(f"{of(system)}/statistics", **through(31))

    answer, database, redis = await query.ask(f"{of(system)}/statistics", **through(31))

    assert answer["meta"]["cached"]
    at_most(database, "cached statistics", statements=2, round_trips=2)
    at_most(redis, "cached statistics: Redis", statements=1, round_trips=1)


async def test_a_list_of_admin_costs_the_same_however_long_it_is(stack: Stack) -> None:
    async with counted(stack, "admin") as (services, wires), administrator(services) as client:
        partner = await a_partner(client)
        paths = ("/api/partners", "/api/partnersystems")
        for number in (1, 20):
            for _ in range(number):
                await a_system(client, partner)
                await a_partner(client)
            for path in paths:

                async def ask(path: str = path, number: int = number) -> None:
                    assert len((await client.get(path)).json()["items"]) >= number

                said = await cheapest(wires["write"], ask)
                at_most(said, f"{path} with {number} or more", statements=3, round_trips=3)


async def test_a_system_is_registered_with_a_fixed_number_of_statements(stack: Stack) -> None:
    async with counted(stack, "admin") as (services, wires), administrator(services) as client:
        partner = await a_partner(client)
        said = await cheapest(wires["write"], lambda: a_system(client, partner))

        at_most(said, "a new system with its key", statements=20, round_trips=20)
