"""Ranges of questions to query: what belongs to them, and that the list and the statistics agree."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.service_processes import ROOT, run_services
from tests.support.stack import Stack

MICROSECOND = timedelta(microseconds=1)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sees all partners."""
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    async with run_services(stack, "query") as services:
        async with http_client(base_url=services.url("query"), headers=headers) as client:
            yield client


async def ask(client: httpx.AsyncClient, system: System, **parameters: Any) -> tuple[int, int, int]:
    """How many events are listed, counted by the list, and counted by statistics."""
    path = f"/api/events/partner-system/{system.id}"
    listed = await client.get(path, params=parameters)
    counted = await client.get(f"{path}/statistics", params=parameters)
    assert (listed.status_code, counted.status_code) == (200, 200), listed.text + counted.text
    return len(listed.json()["events"]), listed.json()["totalCount"], counted.json()["totalEvents"]


async def test_the_range_of_the_readme_is_all_of_november(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    inside = [NOVEMBER, DECEMBER - timedelta(seconds=0.5), DECEMBER - MICROSECOND]
    await add_events(stack, system, [Seen(at) for at in (NOVEMBER - MICROSECOND, *inside, DECEMBER)])
    example = re.search(r"statistics\?startDate=(\S+?)&endDate=([^\s\"]+)", (ROOT / "README.md").read_text())
    assert example is not None

    numbers = await ask(client, system, startDate=example[1], endDate=example[2])

    assert numbers == (3, 3, 3)


@pytest.mark.parametrize(
    ("end", "number"),
    [
        ("2026-11-30", 4),
        ("20261130", 4),
        ("2026-W49-1", 4),
        ("2026-11-30T23:59:59.999999Z", 4),
        ("2026-11-30T23:59:59Z", 2),
        ("2026-11-30T23:59:59", 2),
        ("2026-11-30T23:59:59+00:00", 2),
        ("2026-11-30T00:00", 1),
        ("2026-11-29", 0),
    ],
)
async def test_an_end_is_included_and_a_date_alone_is_its_whole_day(
    client: httpx.AsyncClient, stack: Stack, end: str, number: int
) -> None:
    system = await add_system(stack)
    last_day = DECEMBER - timedelta(days=1)
    moments = [last_day, DECEMBER - timedelta(seconds=1), DECEMBER - timedelta(seconds=0.5), DECEMBER - MICROSECOND]
    await add_events(stack, system, [Seen(at) for at in (*moments, DECEMBER)])

    assert await ask(client, system, startDate="2026-11-01", endDate=end) == (number,) * 3


async def test_the_list_and_the_statistics_leave_out_bots_alike(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    events = [
        Seen(NOVEMBER + timedelta(hours=n), is_bot=n % 3 == 0, is_valid=n % 4 != 0, user_id="user_1") for n in range(60)
    ]
    await add_events(stack, system, events)
    november = {"startDate": "2026-11-01", "endDate": "2026-11-30"}

    assert await ask(client, system, **november) == (40, 40, 40)
    assert await ask(client, system, **november, includeBots="true") == (60, 60, 60)
    for asked, number in (
        ({"isBot": "true"}, 20),
        ({"isBot": "false"}, 40),
        ({"isBot": "true", "includeBots": "true"}, 20),
        ({"userId": "user_1"}, 40),
        ({"userId": "user_1", "includeBots": "true"}, 60),
        ({"userId": "user_1", "mergeIdentities": "true"}, 40),
        ({"isValid": "false"}, 10),
        ({"isValid": "false", "includeBots": "true"}, 15),
    ):
        path = f"/api/events/partner-system/{system.id}"
        listed = (await client.get(path, params=november | asked)).json()
        assert (len(listed["events"]), listed["totalCount"]) == (number, number), asked


async def test_a_cursor_is_of_a_list_with_bots_or_without(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    events = [Seen(NOVEMBER + timedelta(hours=n), is_bot=n % 2 == 0) for n in range(10)]
    await add_events(stack, system, events)
    path, november = f"/api/events/partner-system/{system.id}", {"startDate": "2026-11-01", "endDate": "2026-11-30"}

    for bots, number in (({}, 5), ({"includeBots": "true"}, 10)):
        page = (await client.get(path, params=november | bots | {"pageSize": "3"})).json()
        cursor = {"cursor": page["nextCursor"]}
        rest = (await client.get(path, params=november | bots | cursor)).json()
        other = await client.get(path, params=november | cursor | ({} if bots else {"includeBots": "true"}))
        assert len(page["events"]) + len(rest["events"]) == rest["totalCount"] == number
        assert (other.status_code, other.json()["code"]) == (400, "invalid_cursor")
