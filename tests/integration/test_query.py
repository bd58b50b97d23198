"""Query on real servers: its responses, who may see them, and pages and counts that are exact to the event."""

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

MICROSECOND = timedelta(microseconds=1)
NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
DECEMBER = {"startDate": "2025-12-01T00:00:00Z", "endDate": "2025-12-31T23:59:59Z"}


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """Query alone."""
    async with run_services(stack, "query") as services:
        yield services


@pytest.fixture
async def system(stack: Stack) -> System:
    """A system that query knows."""
    return await add_system(stack)


@pytest.fixture
async def client(services: ServiceProcesses, stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sees all partners."""
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    async with http_client(base_url=services.url("query"), headers=headers, timeout=20) as client:
        yield client


def of(system: System) -> str:
    return f"/api/events/partner-system/{system.id}"


async def ask(client: httpx.AsyncClient, path: str, **parameters: Any) -> Any:
    response = await client.get(path, params=DECEMBER | parameters)
    assert response.status_code == 200, response.text
    return response.json()


def scattered(number: int, days: int = 30) -> list[Seen]:
    """Always the same events: four names, some invalid, many at the same moment."""
    chance = random.Random(number)  # noqa: S311
    start = datetime(2025, 12, 1, tzinfo=UTC)
    return [
        Seen(
            start
            + timedelta(seconds=chance.randrange(days * 24 * 60) * 60, microseconds=chance.choice([0, 1, 999_999])),
            chance.choice(["page_view", "click", "purchase", "sign_up"]),
            is_valid=chance.random() > 0.1,
            user_id=chance.choice([None, "user_1", "user_2"]),
            anonymous_id=f"anon_{chance.randrange(5)}",
            correlation_id=f"c{chance.randrange(20)}",
        )
        for _ in range(number)
    ]


async def test_the_list_has_the_specified_fields_and_shows_the_event_as_it_is(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    event = Seen(NOON, user_id="user_1", is_valid=False, properties='{"preis": 1.50, "ü": [null, {}]}'.encode())
    await add_events(stack, system, [event])

    answer = await ask(client, of(system))

    assert set(answer) == {"events", "totalCount", "pageNumber", "pageSize", "nextCursor", "meta"}
    assert (answer["totalCount"], answer["pageNumber"], answer["pageSize"], answer["nextCursor"]) == (1, 1, 100, None)
    [shown] = answer["events"]
    expected = {
        "eventId": str(event.id),
        "id": str(event.id),
        "partnerId": str(system.partner_id),
        "partnerName": "Acme Corp",
        "partnerSystemId": str(system.id),
        "systemName": "Acme Website",
        "eventName": "page_view",
        "eventTimestamp": "2025-12-24T12:00:00Z",
        "originalTimestamp": None,
        "receivedAt": None,
        "processedAt": None,
        "userId": "user_1",
        "anonymousId": "anon_1",
        "messageId": None,
        "eventProperties": {"preis": 1.5, "ü": [None, {}]},
        "isValid": False,
        "validationErrors": [{"code": "type"}],
        "schemaVersion": None,
        "clockAdjusted": False,
        "correlationId": "c1",
        "eventType": "track",
        "context": None,
        "isBot": False,
    }
    # in this order too
    assert list((shown | {"receivedAt": None, "processedAt": None}).items()) == list(expected.items())
    assert shown["receivedAt"].endswith("Z")


async def test_the_statistics_have_the_specified_fields(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    events = [Seen(NOON + timedelta(minutes=n), "click" if n % 3 else "view", is_valid=n > 1) for n in range(100)]
    await add_events(stack, system, events)

    answer = await ask(client, of(system) + "/statistics")

    assert answer.pop("meta") == {"asOf": None, "lagSeconds": None, "source": "rollup+raw", "cached": False} | {
        "rawSince": None,
        "countsSince": None,
    }
    assert answer == {
        "partnerSystemId": str(system.id),
        "totalEvents": 100,
        "validEvents": 98,
        "invalidEvents": 2,
        "eventCounts": {"click": 66, "view": 34},
        "startDate": "2025-12-01T00:00:00Z",
        "endDate": "2025-12-31T23:59:59Z",
    }


async def test_many_event_names_are_capped_with_an_other_and_read_by_pages(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    numbers = {f"name {n:04} {'ü' * 180}": n % 7 + 1 for n in range(1_000)}
    await add_events(stack, system, [Seen(NOON, name) for name, number in numbers.items() for _ in range(number)])
    path, total = of(system) + "/statistics", sum(numbers.values())

    first = await ask(client, path)
    response = await client.get(path, params=DECEMBER)
    pages = [await ask(client, path, pageSize=300)]
    while cursor := pages[-1]["nextCursor"]:
        pages.append(await ask(client, path, pageSize=300, cursor=cursor))

    by_frequency = sorted(numbers, key=lambda name: (-numbers[name], name))
    assert list(first["eventCounts"]) == by_frequency[:100]
    assert (first["otherNames"], len(response.content) < 60_000) == (900, True)
    assert [len(page["eventCounts"]) for page in pages] == [300, 300, 300, 100]
    assert [name for page in pages for name in page["eventCounts"]] == by_frequency
    for page in (first, *pages):
        assert all(numbers[name] == number for name, number in page["eventCounts"].items())
        assert page["totalEvents"] == sum(page["eventCounts"].values()) + page["other"] == total
        assert len(page["eventCounts"]) + page["otherNames"] == len(numbers)


async def test_pages_of_event_names_neither_skip_nor_repeat_one_when_another_name_arrives(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    names = [f"name {n:03}" for n in range(250)]
    await add_events(stack, system, [Seen(NOON, name) for name in names])
    path = of(system) + "/statistics"

    pages = [await ask(client, path)]
    await add_events(stack, system, [Seen(NOON, "name 0"), Seen(NOON, "name 120a")])
    while cursor := pages[-1]["nextCursor"]:
        pages.append(await ask(client, path, cursor=cursor))

    assert [name for page in pages for name in page["eventCounts"]] == sorted([*names, "name 120a"])


async def test_a_cursor_of_event_names_belongs_to_its_question(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    await add_events(stack, system, [Seen(NOON, name) for name in "abc"])
    path = of(system) + "/statistics"
    cursor = (await ask(client, path, pageSize=1))["nextCursor"]
    of_events = (await ask(client, of(system), pageSize=1))["nextCursor"]

    for given in (
        {"cursor": cursor, "includeBots": "true"},
        {"cursor": cursor, "endDate": "2025-12-30"},
        {"cursor": of_events},
        {"cursor": cursor[:-2]},
        {"cursor": "AAAA"},
    ):
        response = await client.get(path, params=DECEMBER | given)
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor"), given
    assert (await client.get(path, params=DECEMBER | {"pageSize": "1001"})).status_code == 400


async def test_counts_are_exact_for_any_range(client: httpx.AsyncClient, stack: Stack, system: System) -> None:
    events = scattered(400, days=4)
    await add_events(stack, system, events)
    chance = random.Random(1)  # noqa: S311
    first, last = min(event.at for event in events), max(event.at for event in events)
    midnights = [first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=n) for n in range(6)]
    hours = [midnights[0] + timedelta(hours=n) for n in range(6 * 24)]
    # also moments away from what counts are kept for, and on it
    moments = [*(event.at for event in events), *midnights * 40, *hours * 2]
    assert midnights[0] <= first < last < midnights[-1]

    for _ in range(60):
        start, end = sorted(
            chance.choice(moments) + timedelta(microseconds=chance.choice([-1, 0, 1])) for _ in range(2)
        )
        inside = [event for event in events if start <= event.at <= end]
        wanted = {"startDate": start.isoformat(), "endDate": end.isoformat()}
        name = chance.choice(["click", "purchase"])
        statistics = await ask(client, of(system) + "/statistics", **wanted)
        listed = await ask(client, of(system), **wanted, pageSize=1)
        of_name = await ask(client, of(system), **wanted, pageSize=1, eventName=name, isValid=False)

        assert statistics["totalEvents"] == listed["totalCount"] == len(inside)
        assert statistics["invalidEvents"] == sum(not event.is_valid for event in inside)
        assert statistics["eventCounts"].get(name, 0) == sum(event.name == name for event in inside)
        assert of_name["totalCount"] == sum(event.name == name and not event.is_valid for event in inside)


FILTERS: list[dict[str, Any]] = [
    {},
    {"eventName": "click"},
    {"isValid": True},
    {"isValid": False},
    {"eventName": "purchase", "isValid": False},
    {"userId": "user_1"},
    {"anonymousId": "anon_3"},
    {"correlationId": "c7"},
    {"userId": "user_2", "eventName": "click", "isValid": True},
    {"correlationId": "c3", "anonymousId": "anon_1"},
    {"userId": "nobody"},
]


@pytest.mark.parametrize("order", ["desc", "asc"])
async def test_both_ways_of_paging_show_every_event_once_in_the_order_asked_for(
    client: httpx.AsyncClient, stack: Stack, system: System, order: str
) -> None:
    events = scattered(300)
    await add_events(stack, system, events)
    await add_events(stack, await add_system(stack), scattered(20))
    in_order = sorted(events, key=lambda event: (event.at, event.id), reverse=order == "desc")

    for filters in FILTERS:
        expected = [str(event.id) for event in in_order if matches(event, filters)]
        asked = filters if order == "desc" else filters | {"order": order}
        assert await by_number(client, of(system), asked, len(expected)) == expected
        assert await by_cursor(client, of(system), asked, len(expected)) == expected


async def by_number(client: httpx.AsyncClient, path: str, filters: dict[str, Any], total: int) -> list[str]:
    ids: list[str] = []
    number = 1
    while (page := await ask(client, path, pageSize=37, pageNumber=number, **filters))["events"]:
        assert (page["totalCount"], page["pageNumber"]) == (total, number)
        ids += [event["eventId"] for event in page["events"]]
        number += 1
    return ids


async def by_cursor(client: httpx.AsyncClient, path: str, filters: dict[str, Any], total: int) -> list[str]:
    page = await ask(client, path, pageSize=10, **filters)
    ids = [event["eventId"] for event in page["events"]]
    while page["nextCursor"] is not None:
        # another size and a page number beside it: neither matters to where it goes on
        page = await ask(client, path, pageSize=41, pageNumber=9, cursor=page["nextCursor"], **filters)
        assert page["totalCount"] == total
        ids += [event["eventId"] for event in page["events"]]
    return ids


def matches(event: Seen, filters: dict[str, Any]) -> bool:
    facts = {
        "eventName": event.name,
        "isValid": event.is_valid,
        "userId": event.user_id,
        "anonymousId": event.anonymous_id,
        "correlationId": event.correlation_id,
    }
    return all(facts[name] == value for name, value in filters.items())


async def test_one_event_is_found_by_its_id(client: httpx.AsyncClient, stack: Stack, system: System) -> None:
    event, long_ago = Seen(NOON), Seen(datetime(1987, 6, 5, tzinfo=UTC))
    await add_events(stack, system, [event, long_ago])

    for wanted in (event, long_ago):
        assert (await client.get(f"/api/events/{wanted.id}")).json()["eventId"] == str(wanted.id)
    for unknown in (uuid4(), "x", "\x00", f"{event.id}0", "partner-system"):
        missing = await client.get(f"/api/events/{quote(str(unknown))}")
        assert (missing.status_code, missing.json()["code"]) == (404, "unknown_event")


async def test_without_dates_the_last_30_days_are_meant(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    now = datetime.now(UTC)
    ago = [timedelta(0), timedelta(days=20), timedelta(days=29, hours=23, minutes=58), timedelta(days=31)]
    await add_events(stack, system, [Seen(now - age) for age in [*ago, timedelta(hours=-23, minutes=-58)]])

    listed = (await client.get(of(system))).json()
    counted = (await client.get(of(system) + "/statistics")).json()

    assert len(listed["events"]) == listed["totalCount"] == counted["totalEvents"] == 4


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"pageSize": "0"}, "invalid_parameters", "pageSize"),
    ({"startDate": "soon"}, "invalid_parameters", "startDate"),
    ({"startDate": "2026-01-01"}, "invalid_parameters", "startDate"),
    ({"userId": "\x00"}, "invalid_parameters", "userId"),
    ({"cursor": "AAAA"}, "invalid_cursor", "cursor"),
    ({"pageNumber": "1000000"}, "page_too_deep", "pageNumber"),
    ({"pageNumber": "9" * 40}, "invalid_parameters", "pageNumber"),
    ({"nonsense": "1"}, "invalid_parameters", "nonsense"),
    ({"isValid": ["true", "false"]}, "invalid_parameters", "isValid"),
]


async def test_a_question_that_makes_no_sense_says_which_field(client: httpx.AsyncClient, system: System) -> None:
    for parameters, code, field in BAD:
        response = await client.get(of(system), params=DECEMBER | parameters)

        assert response.status_code == 400, parameters
        assert response.json()["code"] == code
        assert [detail["field"] for detail in response.json()["details"]] == [field]
    for path in ("/api/events/partner-system/x", "/api/events/partner-system/x/statistics"):
        assert (await client.get(path)).status_code == 400
