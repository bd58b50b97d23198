"""Answers about a time of which retention has dropped events agree, and say since when there are any."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.service_processes import run_services
from tests.support.stack import Stack

NAME = "page_view"
# the last moment that is dropped, and the first that is kept
KEPT_SINCE = datetime(2026, 6, 1, tzinfo=UTC)
EXPIRED = KEPT_SINCE - timedelta(days=20) + timedelta(minutes=30)
KEPT = KEPT_SINCE + timedelta(hours=5, minutes=30)
EVER = {"startDate": "2026-01-01", "endDate": "2026-12-01"}


@pytest.fixture
async def system(stack: Stack) -> System:
    """A system with 90 events of an hour that has expired, and 30 of one that is kept; May was dropped."""
    system = await add_system(stack)
    for at, number in ((EXPIRED, 90), (KEPT, 30)):
        events = [Seen(at + timedelta(seconds=n), NAME, user_id=f"u{n % 7}") for n in range(number)]
        await add_events(stack, system, events)
    owner = await stack.read()
    assert await owner.fetchval("select read.drop_partition('tracking_events_read_model', $1)", date(2026, 5, 1))
    return system


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may see everything."""
    async with run_services(stack, "query") as services:
        headers = {"Authorization": f"Bearer {await add_token(stack)}"}
        async with http_client(base_url=services.url("query"), headers=headers, timeout=20) as client:
            yield client


async def ask(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    response = await client.get(path, params=params)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    "filters",
    [{}, {"eventName": NAME}, {"isValid": "true"}, {"isBot": "false"}, {"userId": "u1"}, {"anonymousId": "anon_1"},
     {"correlationId": "c1"}, {"eventType": "track"}, {"userId": "u1", "mergeIdentities": "true"}, {"order": "asc"}],
)  # fmt: skip
async def test_a_list_shows_as_many_events_as_it_counts(
    client: httpx.AsyncClient, system: System, filters: dict[str, str]
) -> None:
    for start in (EVER["startDate"], EXPIRED.isoformat(), KEPT_SINCE.isoformat()):
        asked = {"startDate": start, "endDate": EVER["endDate"], **filters}

        answer = await ask(client, f"/api/events/partner-system/{system.id}", pageSize=1000, **asked)

        assert len(answer["events"]) == answer["totalCount"] > 0, asked
        assert answer["meta"]["rawSince"] == "2026-06-01T00:00:00Z"
        assert answer["totalCount"] == (30 if "userId" not in filters else len(range(1, 30, 7)))


async def test_pages_of_a_list_end_where_retention_begins(client: httpx.AsyncClient, system: System) -> None:
    seen, cursor = 0, None
    while True:
        page = await ask(
            client,
            f"/api/events/partner-system/{system.id}",
            pageSize=7,
            **EVER,
            **({"cursor": cursor} if cursor else {}),
        )
        assert page["totalCount"] == 30
        seen, cursor = seen + len(page["events"]), page["nextCursor"]
        if cursor is None:
            break

    assert seen == 30


async def test_a_list_of_an_expired_range_is_empty_and_counts_nothing(
    client: httpx.AsyncClient, system: System
) -> None:
    for end in (EXPIRED + timedelta(seconds=45), KEPT_SINCE - timedelta(microseconds=1)):
        asked = {"startDate": EVER["startDate"], "endDate": end.isoformat()}

        answer = await ask(client, f"/api/events/partner-system/{system.id}", **asked)

        assert (answer["events"], answer["totalCount"], answer["nextCursor"]) == ([], 0, None)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), 120, id="all"),
        pytest.param(EXPIRED.replace(minute=0), KEPT_SINCE, 90, id="whole hours"),
        pytest.param(EXPIRED + timedelta(seconds=10), KEPT_SINCE, 0, id="begins within an expired hour"),
        pytest.param(datetime(2026, 1, 1, tzinfo=UTC), EXPIRED + timedelta(seconds=10), 0, id="ends within one"),
        pytest.param(EXPIRED, EXPIRED + timedelta(minutes=5), 0, id="is within one"),
        pytest.param(EXPIRED, KEPT + timedelta(seconds=9), 10, id="ends within a kept hour"),
        pytest.param(EXPIRED.replace(minute=0), KEPT + timedelta(seconds=9), 100, id="both"),
    ],
)
async def test_statistics_count_whole_hours_of_what_is_dropped_and_every_event_of_the_rest(
    client: httpx.AsyncClient, system: System, start: datetime, end: datetime, expected: int
) -> None:
    path = f"/api/events/partner-system/{system.id}/statistics"
    asked = {"startDate": start.isoformat(), "endDate": end.isoformat()}

    answers = [await ask(client, path, **asked) for _ in range(2)]

    assert [answer["totalEvents"] for answer in answers] == [expected, expected]
    assert [answer["meta"]["cached"] for answer in answers] == [False, True]
    assert {answer["meta"]["rawSince"] for answer in answers} == {"2026-06-01T00:00:00Z"}


async def test_actors_are_those_of_the_events_that_are_kept(client: httpx.AsyncClient, system: System) -> None:
    path = f"/api/events/partner-system/{system.id}/statistics"

    answer = await ask(client, path, uniqueActors="true", **EVER)
    of_expired = await ask(client, path, uniqueActors="true", startDate="2026-05-01", endDate="2026-05-30")

    assert (answer["totalEvents"], answer["uniqueActors"]) == (120, 7)
    assert (of_expired["totalEvents"], of_expired["uniqueActors"]) == (90, 0)


async def test_what_is_announced_is_not_shown_even_before_it_is_dropped(
    client: httpx.AsyncClient, stack: Stack, system: System
) -> None:
    listed = await ask(client, f"/api/events/partner-system/{system.id}", pageSize=1, **EVER)
    counted = await ask(client, f"/api/events/partner-system/{system.id}/statistics", **EVER)
    event_id = listed["events"][0]["id"]
    assert (await client.get(f"/api/events/{event_id}")).status_code == 200

    await (await stack.read()).execute("select read.advance_retention('2026-07-01', '2026-06-01')")

    listed = await ask(client, f"/api/events/partner-system/{system.id}", **EVER)
    oldest_first = await ask(client, f"/api/events/partner-system/{system.id}", order="asc", **EVER)
    again = await ask(client, f"/api/events/partner-system/{system.id}/statistics", **EVER)
    assert (await client.get(f"/api/events/{event_id}")).status_code == 404
    assert (listed["events"], listed["totalCount"]) == ([], 0)
    assert (oldest_first["events"], oldest_first["totalCount"]) == ([], 0)
    assert (counted["totalEvents"], again["totalEvents"]) == (120, 30)
    assert again["meta"]["cached"] is False
    assert again["meta"]["rawSince"] == "2026-07-01T00:00:00Z"
    assert again["meta"]["countsSince"] == "2026-06-01T00:00:00Z"
