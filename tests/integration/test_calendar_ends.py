"""Events at both ends of the calendar are listed, counted, paged and rebuilt like any others.

asyncpg takes `datetime.min` and `datetime.max` for -infinity and infinity.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S
from tests.support.read_model import add_token
from tests.support.rebuild import (
    EMPTY,
    QUICK,
    WORKERS,
    assert_exact,
    assert_nothing_to_correct,
    content,
    reach,
    rebuild,
    send,
)
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ROOT, ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.infra import postgres

UPGRADE = Path(ROOT) / "libs/tracking/migrations/read/0011.times_without_sentinels.sql"
FIRST = "0001-01-01T00:00:00Z"
TIMES = [FIRST, FIRST, "0001-01-01T00:00:00.000001Z", "0001-01-01T23:59:59.999999Z", "0001-02-01T00:00:00Z"]
LAST = datetime.max.replace(tzinfo=UTC)
# No route accepts a time so far ahead, so it is written into the write database.
MOVE_TO_THE_END = """
update write.tracking_events
   set event_timestamp = '9999-12-31T23:59:59.999999Z', original_timestamp = '9999-12-31T23:59:59.999999Z'
 where event_name = 'last'
"""
EVERYTHING = {"startDate": "0001-01-01", "endDate": "9999-12-31"}
TIME_COLUMNS = """
select table_name || '.' || column_name as name, data_type
  from information_schema.columns
 where table_schema in ('write', 'read')
   and (data_type like 'time%' or data_type in ('date', 'interval'))
"""


@pytest.fixture
async def senders(stack: Stack) -> list[Registered]:
    """Two systems."""
    return [await register_system(stack, "Website"), await register_system(stack, "Shop")]


@pytest.fixture
async def services(stack: Stack, senders: list[Registered]) -> AsyncIterator[ServiceProcesses]:
    """Everything that an event passes through."""
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        yield services


async def send_to_both_ends(services: ServiceProcesses, senders: list[Registered]) -> int:
    """Events of the first moments of the calendar, and some that `MOVE_TO_THE_END` finds; how many there are."""
    events: list[dict[str, Any]] = [
        {
            "eventName": "first",
            "eventType": "identify",
            "userId": f"user_{n}",
            "anonymousId": f"visitor_{n}",
            "eventId": f"e{n}",
            "eventTimestamp": at,
        }
        for n, at in enumerate(TIMES)
    ]
    events += [{"eventName": "last", "userId": "u", "eventId": f"last {n}"} for n in range(3)]
    for sender in senders:
        await send(services, sender, events)
    return len(events) * len(senders)


async def test_a_rebuild_leaves_events_of_the_first_moment_as_they_are(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await reach(stack, await send_to_both_ends(services, senders))

    await assert_nothing_to_correct(services, stack)

    await assert_exact(stack)


async def test_an_empty_read_database_gets_the_events_of_both_ends_back(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    number = await send_to_both_ends(services, senders)
    await reach(stack, number)
    await services.stop(*WORKERS)
    read = await stack.read()
    await (await stack.write()).execute(MOVE_TO_THE_END)
    await read.execute(EMPTY)

    finished = await rebuild(stack)

    assert finished.result["repairedEvents"] == number
    await assert_exact(stack)
    await services.start(*WORKERS)
    await assert_nothing_to_correct(services, stack)


async def test_both_ends_are_listed_paged_and_counted(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await reach(stack, await send_to_both_ends(services, senders))
    await services.stop(*WORKERS)
    await (await stack.write()).execute(MOVE_TO_THE_END)
    await rebuild(stack, "--delete-strays")
    await services.start("query", "relay")
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    path = f"/api/events/partner-system/{senders[0].system_id}"

    async with http_client(base_url=services.url("query"), headers=headers, timeout=PATIENCE_S) as client:

        async def ask(route: str, **parameters: Any) -> Mapping[str, Any]:
            response = await client.get(route, params=parameters)
            assert response.status_code == 200, response.text
            found: Mapping[str, Any] = response.json()
            return found

        pages = [await ask(path, pageSize=2, **EVERYTHING)]
        while pages[-1]["nextCursor"]:
            pages.append(await ask(path, pageSize=2, cursor=pages[-1]["nextCursor"], **EVERYTHING))
        last_hour = {"startDate": "9999-12-31T23:30:00Z", "endDate": "9999-12-31T23:59:59.999999Z"}
        first_moment = {"startDate": FIRST, "endDate": FIRST}

        listed = [datetime.fromisoformat(event["eventTimestamp"]) for page in pages for event in page["events"]]
        assert len({event["id"] for page in pages for event in page["events"]}) == len(listed) == len(TIMES) + 3
        assert listed == sorted(listed, reverse=True)
        assert {page["totalCount"] for page in pages} == {len(listed)}
        for within, number in ((EVERYTHING, len(listed)), (last_hour, 3), (first_moment, 2)):
            assert (await ask(path, **within))["totalCount"] == number
            assert (await ask(f"{path}/statistics", includeBots="true", **within))["totalEvents"] == number


async def test_no_time_of_python_becomes_infinity_on_its_way_to_postgresql(stack: Stack) -> None:
    pool = await postgres.open_pool(stack.read_url(), service="test", connect_timeout_s=20, query_timeout_s=20, size=1)
    try:
        for at in (datetime.min.replace(tzinfo=UTC), LAST):
            sent = await pool.fetchrow(
                "select $1::timestamptz, ($2::timestamptz[])[1], $3::date, ($4::date[])[1],"
                " isfinite($1::timestamptz) and isfinite(($2::timestamptz[])[1])"
                " and isfinite($3::date) and isfinite(($4::date[])[1])",
                at,
                [at],
                at.date(),
                [at.date()],
            )
            assert sent is not None
            assert tuple(sent) == (at, at, at.date(), at.date(), True)
        with pytest.raises(asyncpg.DataError):
            await pool.execute("select $1::timestamptz", datetime(2026, 1, 1))
        # what an earlier version wrote for these two moments
        old = await pool.fetchrow("select '-infinity'::timestamptz, 'infinity'::timestamptz, 'infinity'::date")
        assert old is not None
        assert tuple(old) == (datetime.min.replace(tzinfo=UTC), LAST, date.max)
    finally:
        await postgres.close_pool(pool)


INFINITE = """
insert into read.tracking_events_read_model
select partner_system_id, id, partner_id, partner_name, system_name, event_name, '-infinity', original_timestamp,
       received_at, user_id, anonymous_id, message_id, event_properties, schema_version, is_valid, validation_errors,
       clock_adjusted, correlation_id, now(), event_type, context, is_bot
  from read.tracking_events_read_model
 where event_timestamp = '0001-01-01 00:00:00+00'
 limit 2;
delete from read.tracking_events_read_model
 where event_timestamp = '0001-01-01 00:00:00+00'
   and id = (select min(id::text)::uuid from read.tracking_events_read_model where event_timestamp = '-infinity');
update read.event_counts_hourly set bucket = '-infinity' where bucket = '0001-01-01 00:00:00+00';
insert into read.event_counts_daily
select partner_system_id, '-infinity', event_name, 1, 0, 0, 0
  from read.event_counts_daily where day = '0001-01-01';
update read.event_counts_daily set valid = valid - 1 where day = '0001-01-01';
update read.range_versions set day = '-infinity' where day = '0001-01-01';
update read.identities set linked_at = '-infinity' where linked_at = '0001-01-01 00:00:00+00';
insert into read.rebuild_hours select partner_system_id, 'infinity' from read.range_versions group by 1;
"""


async def test_what_earlier_versions_wrote_as_infinity_is_mended_by_the_upgrade(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await reach(stack, await send_to_both_ends(services, senders))
    read = await stack.read()
    before = await content(stack)
    await read.execute(INFINITE)
    assert await content(stack) != before

    await read.execute(UPGRADE.read_text(encoding="utf-8"))

    assert await content(stack) == before
    await assert_nothing_to_correct(services, stack)
    assert await read.fetchval("select count(*) from read.range_versions where not isfinite(day)") == 0


async def test_every_column_of_a_time_has_a_type_whose_values_are_sent_exactly(stack: Stack) -> None:
    rows = [row for owner in (await stack.write(), await stack.read()) for row in await owner.fetch(TIME_COLUMNS)]

    assert len(rows) > 20
    assert {row["data_type"] for row in rows} == {"timestamp with time zone", "date"}
