"""The 8 KiB blocks that query's statements touch: no more than today, however many rows precede the requested ones."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from services.query import events, statistics
from services.query.conditions import EventFilters
from services.query.cursor import PagePosition
from services.query.sql import Statement
from services.query.statistics import NamesPage
from services.query.time_range import TimeRange
from tests.support.read_model import Seen, System, add_events, add_system
from tests.support.stack import Stack
from tracking.tables import range_versions

START = datetime(2025, 10, 1, tzinfo=UTC)
WEEKS = 13
SYSTEMS = 3
EVENTS_A_WEEK = 300
ALL = TimeRange(START, START + timedelta(weeks=WEEKS, microseconds=-1))
NOVEMBER = TimeRange(datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC))
LIMIT = 101
MORE_PARTITIONS = 3
# a row of the page may lie in another block, and an index be a level higher
SLACK = 4


@pytest.fixture
async def systems(stack: Stack) -> list[System]:
    """Three with nearly 4 000 events each in four partitions, in the order in which they would have come."""
    systems = [await add_system(stack) for _ in range(SYSTEMS)]
    await add_weeks(stack, systems, START)
    return systems


async def add_weeks(stack: Stack, systems: list[System], begin: datetime) -> None:
    step = timedelta(weeks=1) / EVENTS_A_WEEK
    for week in range(WEEKS):
        for system in systems:
            start = begin + timedelta(weeks=week)
            await add_events(
                stack,
                system,
                [
                    Seen(start + n * step, f"name_{n % 5}", user_id=f"user_{week}_{n}", properties=b'{"n": 12345}')
                    for n in range(EVENTS_A_WEEK)
                ],
            )
    owner = await stack.read()
    await owner.execute("vacuum analyze")


async def blocks(stack: Stack, statement: Statement) -> int:
    """Read or found in memory, while it ran as the service runs it."""
    connection = await asyncpg.connect(stack.read_url("query"), server_settings={"timezone": "UTC"})
    try:
        text = await connection.fetchval(
            "explain (analyze, buffers, format json) " + statement.text, *statement.arguments
        )
    finally:
        await connection.close()
    plan = json.loads(text)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def touched(stack: Stack, system: System) -> Mapping[str, int]:
    """Blocks of each question."""
    owner = await stack.read()
    event_id = await owner.fetchval(
        "select id from read.tracking_events_read_model where event_timestamp >= $1 order by event_timestamp limit 1",
        NOVEMBER.start,
    )
    deep = PagePosition(ALL, START + timedelta(weeks=WEEKS // 2), UUID(int=0))

    def page(position: PagePosition, filters: EventFilters) -> Statement:
        return events.build_page(system.id, position, filters, limit=LIMIT, offset=0).render()

    first = PagePosition.at_start(ALL)
    statements = {
        "first page": page(first, EventFilters()),
        "page in the middle": page(deep, EventFilters()),
        "page of a name": page(first, EventFilters(event_name="name_1")),
        "page of a user": page(first, EventFilters(user_id="user_6_7")),
        "event by its id": events.build_event(event_id, None).render(),
        "counts of a month": statistics.build_names(system.id, NOVEMBER, NamesPage(LIMIT)).render(),
        "version of a month": Statement(
            range_versions._SELECT_VERSION, (system.id, NOVEMBER.start.date(), NOVEMBER.end.date())
        ),
    }
    return {question: await blocks(stack, statement) for question, statement in statements.items()}


async def test_questions_touch_no_more_blocks_than_before_nor_more_of_twice_the_data(
    stack: Stack, systems: list[System]
) -> None:
    most = {
        "first page": 9,
        "page in the middle": 11,
        "page of a name": 18,
        "page of a user": 10,
        "event by its id": 12,
        "counts of a month": 22,
        "version of a month": 8,
    }

    few = await touched(stack, systems[1])
    await add_weeks(stack, systems, START - timedelta(weeks=WEEKS))
    many = await touched(stack, systems[1])

    # an id says nothing of the month: each partition's index is asked, which is two blocks
    slack = {"event by its id": 2 * MORE_PARTITIONS}
    for question, number in most.items():
        assert few[question] <= number, f"{question}: {few[question]} blocks, where {number} were enough before"
        grown = f"{question}: {few[question]} blocks, and {many[question]} of twice the data"
        assert many[question] <= few[question] + slack.get(question, SLACK), grown
