"""`rebuild read-model` makes the read database equal to the committed events, each once, whatever damaged it."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from uuid import uuid4

import pytest

from services.cli.rebuild.batches import COLUMNS
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.read_model import add_token
from tests.support.rebuild import (
    COUNTS,
    EMPTY,
    QUICK,
    WORKERS,
    assert_exact,
    content,
    mixed,
    next_millisecond,
    plain,
    reach,
    rebuild,
    send,
    send_mixed,
)
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.tables.rollups import COUNT_KINDS


@pytest.fixture
async def senders(stack: Stack) -> list[Registered]:
    """Two systems of one partner, and one of another."""
    first = await register_system(stack, "Website")
    return [first, await register_system(stack, "App", first.partner_id), await register_system(stack, "Shop")]


@pytest.fixture
async def services(stack: Stack, senders: list[Registered]) -> AsyncIterator[ServiceProcesses]:
    """Everything that an event passes through."""
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        yield services


DAMAGE = """
delete from read.tracking_events_read_model where abs(hashtext(id::text)) % 3 = 0;
update read.tracking_events_read_model set context = '{}', event_type = 'group' where abs(hashtext(id::text)) % 13 = 7;
update read.tracking_events_read_model set is_bot = true where abs(hashtext(id::text)) % 17 = 5;
update read.tracking_events_read_model set event_name = 'wrong' where abs(hashtext(id::text)) % 5 = 1;
update read.tracking_events_read_model set is_valid = not is_valid where abs(hashtext(id::text)) % 7 = 2;
update read.tracking_events_read_model set event_properties = '{}', user_id = null
 where abs(hashtext(id::text)) % 11 = 4;
update read.event_counts_hourly set total = total + 5, valid = valid + 5 where event_name = 'name_0';
delete from read.event_counts_hourly where event_name = 'name_1';
insert into read.event_counts_hourly
select partner_system_id, bucket, 'never', 3, 1, 2 from read.event_counts_hourly group by 1, 2;
insert into read.event_counts_hourly
select partner_system_id, '1999-01-01T00:00Z', 'never', 3, 1, 2 from read.event_counts_hourly group by 1;
update read.event_counts_daily set valid = valid + 7 where event_name = 'name_2';
delete from read.event_counts_daily where event_name = 'name_0';
insert into read.event_counts_daily
select partner_system_id, '1998-01-01', 'never', 3, 1, 2, 0 from read.event_counts_daily group by 1;
delete from read.applied_batches where abs(hashtext(batch_id::text || consumer)) % 3 = 0;
"""


async def test_a_damaged_read_model_becomes_what_it_was(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send_mixed(services, stack, senders)
    await services.stop(*WORKERS)
    before = await content(stack)
    await (await stack.read()).execute(DAMAGE)
    assert await content(stack) != before

    finished = await rebuild(stack)

    assert await content(stack) == before
    await assert_exact(stack)
    assert finished.result["events"] == 900
    assert finished.result["repairedEvents"] > 300
    assert finished.result["missingEvents"] == 0


@pytest.mark.parametrize(
    ("table", "known"),
    [
        ("read.tracking_events_read_model", {*COLUMNS, "processed_at"}),
        ("read.event_counts_hourly", {"partner_system_id", "bucket", "event_name", "total", *COUNT_KINDS}),
        ("read.event_counts_daily", {"partner_system_id", "day", "event_name", *COUNT_KINDS}),
    ],
)
async def test_a_rebuild_knows_every_column(stack: Stack, table: str, known: set[str]) -> None:
    read = await stack.read()

    rows = await read.fetch(
        "select attname from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
        table,
    )

    assert {row["attname"] for row in rows} == known


async def test_bots_are_counted_apart(services: ServiceProcesses, stack: Stack, senders: list[Registered]) -> None:
    await send_mixed(services, stack, senders)
    await services.stop(*WORKERS)
    write, read = await stack.write(), await stack.read()
    await write.execute("update write.tracking_events set is_bot = true where event_name = 'name_1'")

    await rebuild(stack)

    await assert_exact(stack)
    counted = await read.fetchrow(
        "select sum(total)::int, sum(bots_valid + bots_invalid)::int from read.event_counts_hourly"
    )
    assert counted is not None
    assert tuple(counted) == (600, 300)


async def test_an_empty_read_database_is_filled_again(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send_mixed(services, stack, senders)
    await services.stop(*WORKERS)
    before = await content(stack)
    read = await stack.read()
    await read.execute(EMPTY)
    month = datetime.now(UTC).date().replace(day=1)
    for parent in ("tracking_events_read_model", "applied_batches"):
        await read.execute("select read.drop_partition($1, $2)", parent, month)

    await rebuild(stack)

    assert await content(stack) == before
    await assert_exact(stack)
    assert await read.fetchval("select count(*) from read.applied_batches_default") == 0
    outside = await read.fetchval("select max(event_timestamp) from read.tracking_events_read_model_default")
    assert outside.date() < date(2005, 1, 1)
    await services.start(*WORKERS)
    await send(services, senders[0], mixed(range(900, 1000)))
    await reach(stack, 1000)


async def test_a_rebuild_of_what_is_right_changes_nothing(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send_mixed(services, stack, senders)
    read = await stack.read()
    rows = "select *, ctid, xmin from read.tracking_events_read_model order by partner_system_id, id"
    versions = "select * from read.range_versions order by 1, 2, 3"
    before = await read.fetch(rows), await read.fetch(COUNTS), await read.fetch(versions)

    for _ in range(2):
        finished = await rebuild(stack)
        assert (finished.result["repairedEvents"], finished.result["repairedCounts"]) == (0, 0)

    assert (await read.fetch(rows), await read.fetch(COUNTS), await read.fetch(versions)) == before


HALF = """
delete from read.tracking_events_read_model where event_name = 'name_1';
update read.event_counts_hourly set total = total + 1, valid = valid + 1 where event_name = 'name_2';
"""


@pytest.mark.parametrize("damage", [HALF, EMPTY], ids=["half", "empty"])
async def test_a_rebuild_while_events_come_in_leaves_each_there_once(
    services: ServiceProcesses, stack: Stack, senders: list[Registered], damage: str
) -> None:
    await send_mixed(services, stack, senders)
    await (await stack.read()).execute(damage)
    is_over = asyncio.Event()

    async def keep_sending() -> int:
        number = 900
        while not is_over.is_set():
            await send(services, senders[number // 20 % 3], mixed(range(number, number + 20)))
            number += 20
        return number

    sending = asyncio.create_task(keep_sending())
    await rebuild(stack)
    await rebuild(stack, "--delete-strays")
    is_over.set()
    number = await sending

    await reach(stack, number)
    await assert_exact(stack)


@pytest.mark.parametrize("behind", ["projector", "statistics"])
async def test_a_worker_that_is_behind_goes_on_where_it_was_after_a_rebuild(
    services: ServiceProcesses, stack: Stack, senders: list[Registered], behind: str
) -> None:
    read = await stack.read()
    await send(services, senders[0], plain(range(100)))
    await reach(stack, 100)
    end = await next_millisecond()
    await services.stop(behind)
    await send(services, senders[0], plain(range(100, 150)))
    await until(
        lambda: read.fetchval("select count(*) from read.applied_batches group by consumer order by 1 desc limit 1"),
        lambda number: number == 2,
    )
    before = await content(stack)
    await read.execute("update read.event_counts_hourly set total = total + 7, invalid = invalid + 7")

    finished = await rebuild(stack, "--to", end.isoformat())

    assert finished.result["batches"] == 1
    assert await content(stack) == before
    await services.start(behind)
    await reach(stack, 150)
    await assert_exact(stack)


async def test_only_batches_of_the_range_are_rebuilt(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    moments = [await next_millisecond()]
    for index in range(3):
        await send(services, senders[0], plain(range(index * 10, index * 10 + 10), f"2026-0{index + 1}-01T10:30:00Z"))
        moments.append(await next_millisecond())
    await reach(stack, 30)
    await services.stop(*WORKERS)
    await (await stack.read()).execute(EMPTY)

    await rebuild(stack, "--from", moments[1].isoformat(), "--to", moments[2].isoformat())
    await reach(stack, 10)
    assert {json.loads(row["event"])["event_timestamp"][:7] for row in (await content(stack)).events} == {"2026-02"}

    await rebuild(stack, "--from", moments[0].isoformat())
    await reach(stack, 30)
    await assert_exact(stack)


async def test_rows_that_nobody_stored_are_deleted_when_asked(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send_mixed(services, stack, senders)
    await services.stop(*WORKERS)
    before = await content(stack)
    read = await stack.read()
    await read.execute(
        "insert into read.tracking_events_read_model select partner_system_id, gen_random_uuid(), partner_id,"
        " partner_name, system_name, 'stray', event_timestamp - interval '5 years', null, received_at, user_id, null,"
        " null, '{}', null, true, null, false, 'c', now(), null, null, false"
        " from read.tracking_events_read_model limit 10"
    )
    await read.execute(
        "update read.tracking_events_read_model set event_timestamp = event_timestamp + interval '40 days'"
        " where event_name = 'name_0'"
    )
    moved = sum(json.loads(row["event"])["event_name"] == "name_0" for row in before.events)

    kept = await rebuild(stack)
    assert len((await content(stack)).events) == 910 + moved
    assert kept.result["deletedStrays"] == 0
    finished = await rebuild(stack, "--delete-strays")

    assert finished.result["deletedStrays"] == 10 + moved
    assert await content(stack) == before
    await assert_exact(stack)


async def test_a_batch_that_cannot_be_applied_is_named_and_its_neighbours_are_rebuilt(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send(services, senders[0], plain(range(10)))
    await send(services, senders[0], [{"eventName": "poison", "userId": "u"}])
    await send(services, senders[0], plain(range(10, 20)))
    await reach(stack, 21)
    await services.stop(*WORKERS)
    read = await stack.read()
    await read.execute(EMPTY)
    await read.execute(
        "alter table read.tracking_events_read_model add constraint no_poison check (event_name <> 'poison')"
    )

    finished = await rebuild(stack, status=1)

    assert len(finished.result["failedBatches"]) == 1
    await reach(stack, 20)
    await read.execute("alter table read.tracking_events_read_model drop constraint no_poison")
    await rebuild(stack)
    await reach(stack, 21)


async def test_names_stay_as_they_were_when_the_event_came(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send(services, senders[0], plain(range(20)))
    await reach(stack, 20)
    await services.stop(*WORKERS)
    await (await stack.write()).execute("update write.partner_systems set name = 'Renamed'")
    read = await stack.read()
    await read.execute(
        "update read.tracking_events_read_model set user_id = 'wrong', partner_id = $1"
        " where event_name in ('name_0', 'name_1')",
        uuid4(),
    )
    await read.execute("delete from read.tracking_events_read_model where event_name = 'name_1'")

    await rebuild(stack)

    rows = await read.fetch(
        "select distinct event_name, system_name, partner_id, user_id from ("
        "table read.tracking_events_read_model) as r order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("name_0", "Website", senders[0].partner_id, "u"),
        ("name_1", "Renamed", senders[0].partner_id, "u"),
        ("name_2", "Website", senders[0].partner_id, "u"),
    ]


async def test_query_answers_with_the_rebuilt_counts_at_once(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send(services, senders[0], plain(range(90)))
    await reach(stack, 90)
    await services.start("query")
    read = await stack.read()
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    march = {"startDate": "2026-03-01T00:00:00Z", "endDate": "2026-03-31T23:59:59Z"}
    path = f"/api/events/partner-system/{senders[0].system_id}/statistics"
    async with http_client(base_url=services.url("query"), headers=headers, timeout=20) as client:

        async def answer() -> tuple[int, bool]:
            response = await client.get(path, params=march)
            assert response.status_code == 200, response.text
            return response.json()["totalEvents"], response.json()["meta"]["cached"]

        await read.execute(
            "update read.event_counts_hourly set total = total + 10, valid = valid + 10 where event_name = 'name_0'"
        )
        await read.execute("update read.event_counts_daily set valid = valid + 10 where event_name = 'name_0'")
        await read.execute("update read.range_versions set version = version + 1")
        await until(answer, lambda given: given == (100, True))

        await rebuild(stack)

        assert await answer() == (90, False)


KEEP_HOURS = """
create function read.keep() returns trigger language plpgsql as 'begin return null; end';
create trigger keep before delete on read.rebuild_hours for each row execute function read.keep();
"""

KEEP_EVENTS = """
create function read.keep() returns trigger language plpgsql as 'begin return null; end';
create trigger keep before delete on read.tracking_events_read_model for each row execute function read.keep();
update read.tracking_events_read_model set event_name = 'wrong';
"""


@pytest.mark.parametrize(
    ("obstacle", "said"),
    [(KEEP_HOURS, "cannot be deleted from read.rebuild_hours"), (KEEP_EVENTS, "cannot be deleted, and were not")],
    ids=["hours", "events"],
)
async def test_a_rebuild_that_makes_no_progress_ends_with_an_error(
    services: ServiceProcesses, stack: Stack, senders: list[Registered], obstacle: str, said: str
) -> None:
    await send(services, senders[0], plain(range(10)))
    await reach(stack, 10)
    await services.stop(*WORKERS)
    await (await stack.read()).execute(obstacle)

    stuck = await rebuild(stack, status=1)

    assert said in stuck.err
    assert "Traceback" not in stuck.err
    assert stuck.out == ""
    assert await (await stack.read()).fetchval("select count(*) from read.tracking_events_read_model") == 10


async def test_a_time_that_is_none_is_rejected(stack: Stack) -> None:
    rejected = await rebuild(stack, "--from", "yesterday", status=2)

    assert "ISO 8601" in rejected.err
