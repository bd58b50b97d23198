"""Merged actors by HTTP: the events of one actor by pages, and the number of actors, compared with a plain count."""

import random
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.projector.project import project
from tests.support.http_client import http_client
from tests.support.identity_events import batch, connect, identify
from tests.support.polling import until
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

START = datetime(2025, 12, 1, tzinfo=UTC)
DECEMBER = {"startDate": "2025-12-01T00:00:00Z", "endDate": "2025-12-31T23:59:59Z"}
# (kind, id): the user it became; a shared device, a chain, a circle, and ids of one that never occur
LINKS = {
    ("anonymous", "a0"): "u0",
    ("anonymous", "a1"): "u0",
    ("anonymous", "a2"): "u1",
    ("anonymous", "a3"): "u3",
    ("anonymous", "a4"): "u5",
    ("anonymous", "never"): "u0",
    ("anonymous", "u7"): "u7",
    ("user", "u1"): "u2",
    ("user", "u2"): "u3",
    ("user", "gone"): "u3",
    ("user", "u4"): "u5",
    ("user", "u5"): "u4",
}


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """Query alone."""
    async with run_services(stack, "query") as services:
        yield services


@pytest.fixture
async def client(services: ServiceProcesses, stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sees all partners."""
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    async with http_client(base_url=services.url("query"), headers=headers, timeout=20) as client:
        yield client


async def add_links(stack: Stack, system: System, links: Mapping[tuple[str, str], str]) -> None:
    owner = await stack.read()
    await owner.executemany(
        "insert into read.identities values ($1, $2, $3, $4, now(), gen_random_uuid())",
        [(system.id, kind, id_, user) for (kind, id_), user in links.items()],
    )


def scattered(number: int) -> list[Seen]:
    """Users, visitors, and both at once, some without any id; many at the same moment."""
    chance = random.Random(number)  # noqa: S311
    events = []
    for _ in range(number):
        user = chance.choice([None, None, *(f"u{n}" for n in range(9))])
        visitor = chance.choice([None, *(f"a{n}" for n in range(7)), "u7"])
        at = START + timedelta(hours=chance.randrange(700), microseconds=chance.choice([0, 1]))
        name = chance.choice(["view", "click"])
        events.append(Seen(at, name, is_valid=chance.random() > 0.2, user_id=user, anonymous_id=visitor))
    return events


def actor_of(event: Seen, links: Mapping[tuple[str, str], str] = LINKS) -> tuple[str, str] | None:
    """By following links one by one."""
    user, visitor = event.user_id, event.anonymous_id
    if user is None:
        if visitor is None:
            return None
        user = links.get(("anonymous", visitor))
        if user is None:
            return ("anonymous", visitor)
    seen: list[str] = []
    while ("user", user) in links and user not in seen:
        seen.append(user)
        user = links[("user", user)]
    return ("user", min(seen) if user in seen else user)


async def ask(client: httpx.AsyncClient, system: System, path: str = "", status: int = 200, **parameters: Any) -> Any:
    response = await client.get(f"/api/events/partner-system/{system.id}{path}", params=DECEMBER | parameters)
    assert response.status_code == status, response.text
    return response.json()


def ordered(events: Iterable[Seen]) -> list[str]:
    newest_first = sorted(events, key=lambda event: (event.at, event.id), reverse=True)
    return [str(event.id) for event in newest_first]


@pytest.mark.parametrize(
    "given",
    [
        {"userId": "u0"}, {"anonymousId": "a1"}, {"userId": "u1"}, {"userId": "u3"}, {"anonymousId": "a2"},
        {"userId": "gone"}, {"userId": "u4"}, {"anonymousId": "a4"}, {"userId": "u6"}, {"anonymousId": "a6"},
        {"userId": "a6"}, {"anonymousId": "u0"}, {"userId": "nobody"}, {"anonymousId": "u7"},
    ],
    ids=lambda given: "=".join(*given.items()),
)  # fmt: skip
async def test_all_pages_together_are_the_events_of_the_actor(
    client: httpx.AsyncClient, stack: Stack, given: dict[str, Any]
) -> None:
    system, other = await add_system(stack), await add_system(stack)
    events = scattered(400)
    await add_events(stack, system, events)
    await add_events(stack, other, scattered(399))
    await add_links(stack, system, LINKS)
    await add_links(stack, other, {("anonymous", f"a{n}"): "u0" for n in range(7)})
    asked = actor_of(Seen(START, user_id=given.get("userId"), anonymous_id=given.get("anonymousId")))
    wanted = ordered(event for event in events if actor_of(event) == asked)

    by_cursor: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        answer = await ask(client, system, mergeIdentities="true", pageSize=17, **given, **cursor)
        by_cursor += [event["eventId"] for event in answer["events"]]
        assert answer["totalCount"] == len(wanted)
        if answer["nextCursor"] is None:
            break
        cursor = {"cursor": answer["nextCursor"]}
    by_number: list[str] = []
    for number in range(1, len(wanted) // 17 + 2):
        answer = await ask(client, system, mergeIdentities="true", pageSize=17, pageNumber=number, **given)
        by_number += [event["eventId"] for event in answer["events"]]

    oldest = await ask(client, system, mergeIdentities="true", order="asc", pageSize=17, **given)
    following = await ask(client, system, mergeIdentities="true", order="asc", pageNumber=2, pageSize=17, **given)

    assert by_cursor == wanted
    assert by_number == wanted
    shown = [event["eventId"] for page in (oldest, following) for event in page["events"]]
    assert shown == list(reversed(wanted))[:34]


async def test_other_filters_hold_for_a_merged_actor_too(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    events = scattered(500)
    await add_events(stack, system, events)
    await add_links(stack, system, LINKS)
    its = [event for event in events if actor_of(event) == ("user", "u3")]

    answer = await ask(
        client, system, mergeIdentities="true", userId="u1", eventName="view", isValid="true", isBot="false"
    )
    empty = await ask(client, system, mergeIdentities="true", userId="u1", correlationId="other")

    wanted = ordered(event for event in its if event.name == "view" and event.is_valid)
    assert wanted
    assert [event["eventId"] for event in answer["events"]] == wanted
    assert answer["totalCount"] == len(wanted)
    assert (empty["events"], empty["totalCount"]) == ([], 0)


async def test_actors_are_counted_exactly_merged_or_not(client: httpx.AsyncClient, stack: Stack) -> None:
    system, other = await add_system(stack), await add_system(stack)
    events = scattered(300)
    rare = [Seen(START + timedelta(days=20), user_id="once"), Seen(START + timedelta(days=20), anonymous_id="once")]
    await add_events(stack, system, [*events, *rare])
    await add_events(stack, other, events)
    await add_links(stack, system, LINKS)
    owner = await stack.read()
    await owner.execute(
        "update read.tracking_events_read_model set is_bot = true where user_id = 'once' or id = $1", rare[1].id
    )
    ranges: list[dict[str, Any]] = [DECEMBER, {"startDate": "2025-12-05T03:30:00Z", "endDate": "2025-12-05T09:29:59Z"}]

    for bots, ranges_of in ((False, ranges), (True, ranges)):
        for given in ranges_of:
            first, last = (datetime.fromisoformat(given[name]) for name in ("startDate", "endDate"))
            within = [event for event in (events + rare if bots else events) if first <= event.at <= last]
            asked: dict[str, Any] = {"uniqueActors": "true", "includeBots": str(bots).lower(), **given}
            plain = await ask(client, system, "/statistics", **asked)
            merged = await ask(client, system, "/statistics", mergeIdentities="true", **asked)
            apart = await ask(client, other, "/statistics", mergeIdentities="true", **asked)

            assert plain["uniqueActors"] == len({actor_of(event, {}) for event in within} - {None})
            assert merged["uniqueActors"] == len({actor_of(event) for event in within} - {None})
            assert merged["uniqueActors"] < plain["uniqueActors"]
            events_there = [event for event in events if first <= event.at <= last]
            assert apart["uniqueActors"] == len({actor_of(event, {}) for event in events_there} - {None})


async def test_each_event_belongs_to_exactly_one_actor(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    events = [event for event in scattered(300) if actor_of(event)]
    await add_events(stack, system, events)
    await add_links(stack, system, LINKS)
    names = {"user": "userId", "anonymous": "anonymousId"}

    actors = sorted({actor for event in events if (actor := actor_of(event))})
    asked: list[dict[str, Any]] = [{names[kind]: id_} for kind, id_ in actors]
    answers = [await ask(client, system, mergeIdentities="true", **given) for given in asked]

    assert sum(answer["totalCount"] for answer in answers) == len(events)


async def test_without_the_parameters_nothing_is_said_of_actors(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    await add_events(stack, system, [Seen(START, user_id="u0"), Seen(START, user_id=None, anonymous_id="a0")])
    await add_links(stack, system, LINKS)

    statistics = await ask(client, system, "/statistics")
    listed = await ask(client, system, userId="u0")

    assert "uniqueActors" not in statistics
    assert listed["totalCount"] == 1


async def test_a_link_of_today_is_in_the_answer_about_a_cached_month(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    await add_events(
        stack, system, [Seen(START, user_id="u0", anonymous_id="a0"), Seen(START, user_id=None, anonymous_id="a0")]
    )

    async def actors(**parameters: Any) -> tuple[int, bool]:
        answer = await ask(client, system, "/statistics", uniqueActors="true", **parameters)
        return answer["uniqueActors"], answer["meta"]["cached"]

    await until(actors, lambda answer: answer == (2, True))
    await until(lambda: actors(mergeIdentities="true"), lambda answer: answer == (2, True))
    connection = await connect(stack)
    async with connection.transaction():
        await project(connection, [batch(identify(1, "a0", "u0", system.id))])
    await connection.close()

    assert await actors(mergeIdentities="true") == (1, False)
    assert await actors(mergeIdentities="true") == (1, True)
    assert await actors() == (2, True)


async def test_what_merges_nothing_is_rejected(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    first = await ask(client, system, userId="u")
    await add_events(stack, system, [Seen(START + timedelta(hours=n), user_id="u") for n in range(3)])
    cursor = (await ask(client, system, userId="u", mergeIdentities="true", pageSize=1))["nextCursor"]

    rejections = [
        await ask(client, system, status=400, mergeIdentities="true"),
        await ask(client, system, status=400, mergeIdentities="true", userId="u", anonymousId="a"),
        await ask(client, system, "/statistics", status=400, mergeIdentities="true"),
        await ask(client, system, "/statistics", status=400, mergeIdentities="maybe", uniqueActors="true"),
    ]
    other_question = await ask(client, system, status=400, userId="u", cursor=cursor)

    assert first["totalCount"] == 0
    assert [rejection["details"][0]["field"] for rejection in rejections] == ["mergeIdentities"] * 4
    assert other_question["code"] == "invalid_cursor"
