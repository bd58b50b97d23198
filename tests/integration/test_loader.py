"""The loader leaves what projector and statistics would have left of the same events."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.projector import project
from services.statistics import aggregate
from tests.load.growth.plans import plans
from tests.load.growth.queries import DEEP_PAGE, GrowthSample
from tests.load.loader import load
from tests.load.loader.events import EVENTS_A_VISITOR, PARTNER_NAME, SYSTEM_NAMES, Year
from tests.support.http_client import http_client
from tests.support.read_model import add_token
from tests.support.rebuild import COUNTS, EVENTS, LINKS, RECOUNT
from tests.support.service_processes import run_services
from tests.support.stack import Stack, Templates
from tracking.contracts.events_tracked import EventsTracked, SystemContext, decode, encode
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra.postgres import prepare_connection

YEAR = Year(2_000, seed=7)
LAST_MOMENT = timedelta(microseconds=1)


@pytest.fixture
async def loaded(stack: Stack) -> Stack:
    """The year is in the read database."""
    with load.bar() as progress:
        await asyncio.to_thread(load.load, stack.read_url(), YEAR, progress)
    return stack


@pytest.fixture
async def applied(loaded: Stack, templates: Templates) -> Any:
    """A second read database, in which both workers have applied the same events."""
    name = templates.copy("read")
    connection = await asyncpg.connect(templates.url(name))
    try:
        await prepare_connection(connection)
        for month in YEAR.months:
            await connection.execute("select read.create_partition('tracking_events_read_model', $1)", month)
        batches = await as_batches(loaded)
        async with connection.transaction():
            touched = [("projector", key) for key in await project.project(connection, batches)]
            touched += [("statistics", key) for key in await aggregate.aggregate(connection, batches)]
        await connection.execute("create table touched (consumer text, system_id uuid, day date)")
        await connection.copy_records_to_table("touched", records=[(consumer, *key) for consumer, key in touched])
        yield connection
    finally:
        await connection.close()
        templates.drop(name)


async def as_batches(stack: Stack) -> Sequence[EventsTracked]:
    """The loaded events as the gateway would have published them."""
    owner = await stack.read()
    await prepare_connection(owner)
    rows = await owner.fetch("select *, null as sent_at from read.tracking_events_read_model order by id")
    systems = [
        SystemContext(system_id, name, YEAR.partner_id, PARTNER_NAME)
        for system_id, name in zip(YEAR.system_ids, SYSTEM_NAMES, strict=True)
    ]
    events = [TrackingEvent(*(row[column] for column in TrackingEvent._fields)) for row in rows]
    return [
        decode(encode(uuid4(), datetime.now(UTC), systems, events[start : start + 500]))
        for start in range(0, len(events), 500)
    ]


async def test_tables_are_those_that_the_workers_make(loaded: Stack, applied: Any) -> None:
    owner = await loaded.read()
    await prepare_connection(owner)

    assert await owner.fetchval("select count(*) from read.tracking_events_read_model") == YEAR.events
    for table in (EVENTS, COUNTS, LINKS):
        assert await owner.fetch(table) == await applied.fetch(table)
    assert await owner.fetch(COUNTS) == await owner.fetch(RECOUNT)
    assert await owner.fetch(
        "select consumer, partner_system_id, day from read.range_versions where version > 0 order by 1, 2, 3"
    ) == await applied.fetch("select consumer, system_id, day from touched order by 1, 2, 3")


INDEXES = """
select regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', ''), indisvalid
  from pg_index
 where indrelid = any($1::text[]::regclass[])
 order by 1
"""


async def test_each_month_has_its_partition_with_the_indexes_of_the_migrations(loaded: Stack) -> None:
    owner = await loaded.read()
    parent = await owner.fetch(INDEXES, ["read.tracking_events_read_model"])

    for month in YEAR.months:
        name = f"read.tracking_events_read_model_{month:%Y_%m}"
        assert await owner.fetch(INDEXES, [name]) == parent
        assert await owner.fetchval("select relispartition from pg_class where oid = $1::text::regclass", name)
        assert await owner.fetchval(f"select count(*) from {name}") == len(YEAR.month(month).numbers)  # noqa: S608
    assert len(parent) >= 2
    assert await owner.fetchval("select count(*) from read.tracking_events_read_model_default") == 0


async def test_query_serves_what_was_loaded(loaded: Stack) -> None:
    owner = await loaded.read()
    token = await add_token(loaded, partner_id=YEAR.partner_id)
    ranges = [
        (YEAR.start, YEAR.stop - LAST_MOMENT),
        (YEAR.start + timedelta(days=40, minutes=17), YEAR.start + timedelta(days=200, minutes=3)),
    ]

    async with (
        run_services(loaded, "query") as services,
        http_client(base_url=services.url("query"), headers={"Authorization": f"Bearer {token}"}) as client,
    ):
        for system_id in YEAR.system_ids:
            for start, end in ranges:
                path = f"/api/events/partner-system/{system_id}/statistics"
                response = await client.get(path, params={"startDate": start.isoformat(), "endDate": end.isoformat()})
                total = await recount(owner, system_id, start, end)
                assert total > 0 or system_id != YEAR.system_ids[0]
                assert response.json()["totalEvents"] == total
                assert response.json()["meta"]["asOf"] is not None


async def recount(owner: Any, system_id: UUID, start: datetime, end: datetime) -> Any:
    return await owner.fetchval(
        "select count(*) from read.tracking_events_read_model "
        "where partner_system_id = $1 and event_timestamp between $2 and $3 and not is_bot",
        system_id,
        start,
        end,
    )


async def test_events_are_like_those_of_users(loaded: Stack) -> None:
    owner = await loaded.read()
    row = await owner.fetchrow(
        "select count(distinct event_name) as names, count(distinct anonymous_id) as visitors, "
        "count(distinct user_id) as users, count(*) filter (where not is_valid) as invalid, "
        "count(*) filter (where is_valid <> (validation_errors is null)) as contradictions, "
        "count(*) filter (where is_bot) as bots, count(distinct id) as ids from read.tracking_events_read_model"
    )

    assert row is not None
    assert row["names"] == 20
    assert row["visitors"] == YEAR.events / EVENTS_A_VISITOR
    assert row["users"] == YEAR.events / EVENTS_A_VISITOR
    assert 0.01 < row["invalid"] / YEAR.events < 0.06
    assert row["contradictions"] == 0
    assert row["bots"] > 0
    assert row["ids"] == YEAR.events


async def test_a_wrong_count_is_found(loaded: Stack) -> None:
    owner = await loaded.read()
    load.check(loaded.read_url(), YEAR)

    await owner.execute(
        "update read.event_counts_hourly set total = total + 1, valid = valid + 1 where ctid in "
        "(select ctid from read.event_counts_hourly limit 1)"
    )

    with pytest.raises(AssertionError, match="1 counts by hour"):
        load.check(loaded.read_url(), YEAR)


async def test_a_wrong_count_of_a_day_is_found(loaded: Stack) -> None:
    owner = await loaded.read()

    await owner.execute(
        "delete from read.event_counts_daily where ctid in (select ctid from read.event_counts_daily limit 2)"
    )

    with pytest.raises(AssertionError, match="2 counts by day"):
        load.check(loaded.read_url(), YEAR)


async def test_a_year_is_not_loaded_twice(loaded: Stack) -> None:
    with load.bar() as progress, pytest.raises(ValueError, match="already"):
        load.load(loaded.read_url(), YEAR, progress)


def test_the_same_seed_makes_the_same_events_and_another_others() -> None:
    def rows(year: Year) -> list[bytes]:
        return [rows for month in year.months for _, rows in year.month(month).blocks()]

    assert rows(YEAR) == rows(Year(2_000, seed=7))
    assert rows(YEAR) != rows(Year(2_000, seed=8))


async def test_what_a_request_reads_is_seen_in_the_plans_of_its_own_statements(loaded: Stack) -> None:
    token = await add_token(loaded, partner_id=YEAR.partner_id)
    known = await GrowthSample.of(loaded, YEAR)

    async with plans(loaded.read_url("query"), token) as explained:
        of_a_month = await explained.reading(
            f"{known.system}/statistics?startDate=2025-03-01T00:30Z&endDate=2025-03-31"
        )
        at_depth = await explained.reading(DEEP_PAGE.path(known, Random(1)))  # noqa: S311

    assert of_a_month.months == {"2025_03"}
    assert of_a_month.buffers > 0
    # below the newest 1 440 of 1 800 events
    assert at_depth.months <= {"2025_01", "2025_02", "2025_03"}


async def test_the_page_at_depth_begins_where_it_says(loaded: Stack) -> None:
    owner = await loaded.read()
    token = await add_token(loaded, partner_id=YEAR.partner_id)
    known = await GrowthSample.of(loaded, YEAR)

    async with (
        run_services(loaded, "query") as services,
        http_client(base_url=services.url("query"), headers={"Authorization": f"Bearer {token}"}) as client,
    ):
        response = await client.get(DEEP_PAGE.path(replace(known, cursors=known.cursors[:1]), Random(1)))  # noqa: S311

    # the list leaves out bots, and the cursor stands where it would with them
    following = await owner.fetch(
        "with passed as (select event_timestamp, id from read.tracking_events_read_model where partner_system_id = $1"
        "                 order by event_timestamp desc, id desc offset $2 limit 1)"
        "select r.id from read.tracking_events_read_model r, passed where r.partner_system_id = $1 and not r.is_bot"
        "   and (r.event_timestamp, r.id) < (passed.event_timestamp, passed.id)"
        " order by r.event_timestamp desc, r.id desc limit 100",
        YEAR.system_ids[0],
        known.depth + 99,
    )
    assert [event["id"] for event in response.json()["events"]] == [str(row["id"]) for row in following]
