"""The plans of query's statements, checked by the rows and partitions that they read, not by time."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from services.query import actors, events, statistics
from services.query.actors import Actor, ActorsQuestion
from services.query.conditions import EventFilters
from services.query.cursor import PagePosition
from services.query.sql import Fragment, Statement
from services.query.statistics import NamesPage
from services.query.time_range import TimeRange
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.stack import Stack
from tracking.domain.ids import derive_event_id
from tracking.tables import range_versions

START = datetime(2025, 10, 1, tzinfo=UTC)
DAYS = 92
SYSTEMS = 4
EVENTS = 6_000
LIMIT = 101
ALL = TimeRange(START, START + timedelta(days=DAYS, microseconds=-1))
NOVEMBER = TimeRange(datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 11, 30, 23, 59, 59, tzinfo=UTC))


@pytest.fixture
async def system(stack: Stack) -> System:
    """One of four systems with 6 000 events each over three months; PostgreSQL knows nothing of them yet."""
    systems = [await add_system(stack) for _ in range(SYSTEMS)]
    step = timedelta(days=DAYS) / EVENTS
    for system in systems:
        await add_events(
            stack,
            system,
            (
                Seen(
                    START + n * step,
                    "rare" if n % 200 == 0 else f"name_{n % 5}",
                    is_valid=n % 100 != 1,
                    user_id=f"user_{n % 300}",
                    anonymous_id=f"anon_{n % 300}",
                    correlation_id=f"{system.id}-{n // 20}",
                    is_bot=n % 100 == 2,
                )
                for n in range(EVENTS)
            ),
        )
    return systems[1]


async def analyse(stack: Stack) -> None:
    owner = await stack.read()
    await owner.execute("analyze")


async def explained(stack: Stack, statement: Fragment, before: str = "select") -> list[dict[str, Any]]:
    """The nodes of the plan that was run, as the service's own role and settings run it, `before` it what it sets."""
    return await explained_text(stack, statement.render(), before)


async def explained_text(stack: Stack, statement: Statement, before: str = "select") -> list[dict[str, Any]]:
    """As `explained`."""
    connection = await asyncpg.connect(stack.read_url("query"), server_settings={"timezone": "UTC"})
    try:
        async with connection.transaction():
            await connection.execute(before)
            text = await connection.fetchval("explain (analyze, format json) " + statement.text, *statement.arguments)
    finally:
        await connection.close()
    return list(_nodes(json.loads(text)[0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def touched(nodes: list[dict[str, Any]], table: str = "tracking_events_read_model") -> int:
    """Rows read from the table's partitions, those that were thrown away included."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes
        if str(node.get("Relation Name", "")).startswith(table)
    )


def list_read_relations(nodes: list[dict[str, Any]]) -> set[str]:
    """The partitions that were looked into."""
    names = {str(node["Relation Name"]) for node in nodes if "Relation Name" in node and node["Actual Loops"]}
    return {name.removeprefix("tracking_events_read_model_") for name in names}


def read_whole(nodes: list[dict[str, Any]]) -> list[str]:
    """Partitions that were, and that were not empty."""
    return [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan" and touched([node], "")]


def build_page(system: System, position: PagePosition, filters: EventFilters, offset: int = 0) -> Fragment:
    return events.build_page(system.id, position, filters, limit=LIMIT, offset=offset)


PAGES = [
    (EventFilters(), LIMIT),
    (EventFilters(event_name="name_1"), LIMIT),
    (EventFilters(event_name="rare"), LIMIT),
    (EventFilters(is_valid=True), LIMIT * 2),
    (EventFilters(is_valid=False), LIMIT),
    (EventFilters(is_bot=True), LIMIT),
    (EventFilters(is_bot=False), LIMIT * 2),
    (EventFilters(user_id="user_7"), LIMIT),
    (EventFilters(anonymous_id="anon_7"), LIMIT),
    (EventFilters(event_name="rare", is_valid=True, user_id="user_0"), LIMIT),
    (EventFilters(event_name="name_1", is_valid=False), LIMIT),
    (EventFilters(event_name="name_2", is_bot=True), LIMIT),
    (EventFilters(is_valid=False, user_id="user_7"), 20),
    (EventFilters(event_name="name_2", anonymous_id="anon_7"), 20),
]


async def test_a_page_reads_little_more_than_it_shows(stack: Stack, system: System) -> None:
    positions = [
        PagePosition.at_start(ALL),
        PagePosition(ALL, START + timedelta(days=60), UUID(int=0)),
        PagePosition.at_start(ALL, is_oldest_first=True),
        PagePosition(ALL, START + timedelta(days=30), UUID(int=0), is_oldest_first=True),
    ]

    for prepare in (None, analyse):
        if prepare is not None:
            await prepare(stack)
        for filters, most in PAGES:
            for position in positions:
                nodes = await explained(stack, build_page(system, position, filters))
                assert touched(nodes) <= most, filters
                assert read_whole(nodes) == []
                assert not [node for node in nodes if node["Node Type"] == "Sort"]


async def test_a_page_of_a_request_reads_that_request(stack: Stack, system: System) -> None:
    filters = EventFilters(correlation_id=f"{system.id}-100")

    for prepare in (None, analyse):
        if prepare is not None:
            await prepare(stack)
        nodes = await explained(stack, build_page(system, PagePosition.at_start(ALL), filters))
        assert touched(nodes) == 20
        assert read_whole(nodes) == []


async def test_a_message_id_is_looked_for_in_the_keys_alone_and_only_if_it_names_no_event(
    stack: Stack, system: System
) -> None:
    by_id = Seen(START, id=derive_event_id(system.id, "named", None), message_id="named")
    await add_events(stack, system, [by_id])
    owner = await stack.read()

    for prepare in (None, "vacuum analyze read.tracking_events_read_model"):
        if prepare is not None:
            await owner.execute(prepare)
        named, other = (EventFilters(message_id=message_id) for message_id in ("named", "other"))
        first = PagePosition.at_start(ALL)
        for found_by, searched_by in (
            (build_page(system, first, named), build_page(system, first, other)),
            (events.build_count(system.id, ALL, named), events.build_count(system.id, ALL, other)),
        ):
            found = await explained(stack, found_by)
            searched = await explained(stack, searched_by)

            assert touched(found) <= 2
            assert touched(searched) <= EVENTS + 1
            assert read_whole(found) == read_whole(searched) == []
    ends = [node for node in searched if touched([node]) > 1]
    assert {node["Node Type"] for node in ends} == {"Index Only Scan"}
    assert sum(node["Heap Fetches"] for node in ends) == 0


async def test_only_the_months_of_the_range_are_opened(stack: Stack, system: System) -> None:
    await analyse(stack)
    for filters in (EventFilters(), EventFilters(user_id="user_7")):
        nodes = await explained(stack, build_page(system, PagePosition.at_start(NOVEMBER), filters))
        assert list_read_relations(nodes) == {"2025_11"}
    newest = await explained(stack, build_page(system, PagePosition.at_start(ALL), EventFilters()))
    assert list_read_relations(newest) == {"2025_12"}


async def test_a_skipped_page_costs_what_is_skipped(stack: Stack, system: System) -> None:
    await analyse(stack)
    nodes = await explained(stack, build_page(system, PagePosition.at_start(ALL), EventFilters(), 500))

    assert touched(nodes) == 500 + LIMIT


async def test_a_narrow_count_reads_what_it_counts(stack: Stack, system: System) -> None:
    counts = (
        EventFilters(user_id="user_7"),
        EventFilters(anonymous_id="anon_7"),
        EventFilters(correlation_id=f"{system.id}-100"),
    )

    for prepare in (None, analyse):
        if prepare is not None:
            await prepare(stack)
        for filters in counts:
            nodes = await explained(stack, events.build_count(system.id, ALL, filters))
            assert touched(nodes) == 20
            assert read_whole(nodes) == []


async def test_counts_read_the_rollups_and_only_the_edge_hours_from_events(stack: Stack, system: System) -> None:
    await analyse(stack)
    within = TimeRange(NOVEMBER.start + timedelta(minutes=30), NOVEMBER.end)

    an_hour = EVENTS / DAYS / 24
    names = 6
    names_of = statistics.build_names(system.id, within, NamesPage(LIMIT))
    for statement in (names_of, statistics.build_sums(system.id, within, None)):
        nodes = await explained(stack, statement)

        assert touched(nodes) <= 2 * (an_hour + 1)
        assert touched(nodes, "event_counts_hourly") <= 2 * 24 * (an_hour + 1)
        assert touched(nodes, "event_counts_daily") <= 28 * names
        assert list_read_relations(nodes) == {"2025_11", "event_counts_hourly", "event_counts_daily"}
        assert read_whole(nodes) == []


async def test_counts_of_a_day_and_of_less_read_hours_alone(stack: Stack, system: System) -> None:
    await analyse(stack)
    noon = NOVEMBER.start + timedelta(hours=12)
    a_day = EVENTS / DAYS

    for within in (TimeRange(noon, noon + timedelta(days=1)), TimeRange(noon, noon + timedelta(hours=3))):
        nodes = await explained(stack, statistics.build_names(system.id, within, NamesPage(LIMIT)))

        assert touched(nodes, "event_counts_daily") == 0
        assert touched(nodes, "event_counts_hourly") <= a_day + 1
        assert read_whole(nodes) == []


async def test_the_edge_hours_are_counted_from_the_key_alone(stack: Stack, system: System) -> None:
    owner = await stack.read()
    await owner.execute("vacuum analyze read.tracking_events_read_model")
    hour = TimeRange(START + timedelta(days=40, minutes=40), START + timedelta(days=40, minutes=100))

    nodes = await explained(stack, statistics.build_names(system.id, hour, NamesPage(LIMIT)))

    ends = [node for node in nodes if str(node.get("Relation Name", "")).startswith("tracking_events_read_model")]
    assert {node["Node Type"] for node in ends} == {"Index Only Scan"}
    assert touched(nodes) > 0
    assert sum(node["Heap Fetches"] for node in ends) == 0


async def test_counts_of_all_time_read_days_alone(stack: Stack, system: System) -> None:
    await analyse(stack)

    nodes = await explained(stack, statistics.build_names(system.id, ALL, NamesPage(LIMIT)))

    assert touched(nodes) == touched(nodes, "event_counts_hourly") == 0
    # of so small a table the planner reads all systems
    assert DAYS * 5 <= touched(nodes, "event_counts_daily") <= DAYS * 6 * SYSTEMS


async def test_what_every_answer_needs_is_read_by_key(stack: Stack, system: System) -> None:
    await analyse(stack)
    owner = await stack.read()
    event_id = await owner.fetchval("select id from read.tracking_events_read_model limit 1")
    await add_token(stack)

    of_november = Statement(range_versions._SELECT_VERSION, (system.id, NOVEMBER.start.date(), NOVEMBER.end.date()))

    event = await explained(stack, events.build_event(event_id, None))
    version = await explained_text(stack, of_november)

    assert touched(event) == 1
    assert read_whole(event) == []
    assert touched(version, "range_versions") == 60
    assert read_whole(version) == []


@pytest.fixture
async def linked(stack: Stack, system: System) -> System:
    """Each of 300 visitors became a user, and each third of 900 users another one, in chains of three."""
    owner = await stack.read()
    for kind, links in (
        ("anonymous", [(f"anon_{n}", f"user_{n}") for n in range(300)]),
        ("user", [(f"user_{n}", f"user_{n + 100}") for n in range(900) if n % 400 < 300]),
    ):
        await owner.executemany(
            "insert into read.identities select id, $1, $2, $3, now(), gen_random_uuid() from read.partner_systems",
            [(kind, id_, user) for id_, user in links],
        )
    return system


async def test_the_ids_of_an_actor_are_found_by_its_links_alone(stack: Stack, linked: System) -> None:
    for prepare in (None, analyse):
        if prepare is not None:
            await prepare(stack)
        for filters in (
            EventFilters(user_id="user_7"),
            EventFilters(anonymous_id="anon_107"),
            EventFilters(user_id="user_307"),
        ):
            nodes = await explained(stack, actors.build_actor(linked.id, filters))

            # four users in a row, looked at from both sides, and for their visitors; averages of loops are rounded up
            assert touched(nodes, "identities") <= 4 * 3 + 1
            assert not [node for node in nodes if node["Node Type"] == "Seq Scan"]


async def test_a_page_of_an_actor_reads_a_page_of_each_of_its_ids_at_most(stack: Stack, linked: System) -> None:
    actor = Actor([f"user_{n}" for n in (7, 107, 207)], [f"anon_{n}" for n in (7, 107)])
    filters = EventFilters()
    first = PagePosition.at_start(ALL)
    deep = PagePosition(ALL, START + timedelta(days=60), UUID(int=0))

    for prepare in (None, analyse):
        if prepare is not None:
            await prepare(stack)
        for position in (first, deep):
            asked = (linked.id, actor, position, filters)
            page = await explained(stack, actors.build_actor_page(*asked, limit=5, offset=0))
            offset = await explained(stack, actors.build_actor_page(*asked, limit=5, offset=6))

            assert touched(page) <= 3 * 5 + 2 * 20
            assert touched(offset) <= 3 * 11 + 2 * 20
            assert read_whole(page) == read_whole(offset) == []
        counted = await explained(stack, actors.build_actor_count(linked.id, actor, ALL, filters))
        # averages of loops are rounded
        assert touched(counted) <= 6 * 20
        assert read_whole(counted) == []


async def test_only_the_months_of_the_range_are_opened_for_an_actor(stack: Stack, linked: System) -> None:
    await analyse(stack)
    asked = (linked.id, Actor(["user_7"], ["anon_7"]), PagePosition.at_start(NOVEMBER), EventFilters())

    page = await explained(stack, actors.build_actor_page(*asked, limit=LIMIT, offset=0))

    assert list_read_relations(page) == {"2025_11"}


async def test_actors_of_a_range_are_counted_by_the_events_of_the_range(stack: Stack, linked: System) -> None:
    within = TimeRange(NOVEMBER.start, NOVEMBER.start + timedelta(days=1, microseconds=-1))
    of_a_day = EVENTS // DAYS + 1

    for prepare in (None, analyse):
        if prepare is not None:
            await prepare(stack)
        for is_merged in (False, True):
            counted = actors.build_actors_count(ActorsQuestion(linked.id, within, False, is_merged))
            nodes = await explained(stack, counted, before=actors.PLAN_FOR_MANY_ROWS)
            assert touched(nodes) <= of_a_day
            assert list_read_relations(nodes) - {"identities"} == {"2025_11"}
            assert read_whole(nodes) == []
            # all links of the system, once
            assert touched(nodes, "identities") <= 300


async def test_links_are_read_from_the_index_alone(stack: Stack, linked: System) -> None:
    owner = await stack.read()
    await owner.execute("vacuum analyze read.identities")

    found = await explained(stack, actors.build_actor(linked.id, EventFilters(user_id="user_7")))
    counted = await explained(
        stack,
        actors.build_actors_count(ActorsQuestion(linked.id, ALL, False, True)),
        before=actors.PLAN_FOR_MANY_ROWS,
    )

    for nodes in (found, counted):
        of_links = [node for node in nodes if node.get("Relation Name") == "identities"]
        assert {node["Node Type"] for node in of_links} == {"Index Only Scan"}
        assert sum(node["Heap Fetches"] for node in of_links) == 0
