"""Partitions are created, emptied and dropped while a dump is running, and no event waits for that."""

# ruff: noqa: S608 - the statements are composed of constants

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from services.relay.partitions import PartitionMaintainer
from services.relay.upkeep import NotLeading, Upkeep
from tests.integration.test_pipeline import QUICK
from tests.support.dead_letters import metric
from tests.support.polling import until
from tests.support.service_processes import run_services
from tests.support.stack import Database, Stack
from tracking.domain.ids import derive_event_id
from tracking.infra import postgres
from tracking.infra.postgres import PARTITIONS_LOCK, Pool
from tracking.tables.partitions import PARTITIONED_TABLES, list_months_around

SYSTEM = uuid4()
# how long an insert of the test waits for a lock; an upkeep that waits for a dump makes it wait for as long
INSERT_LOCK_TIMEOUT = "2s"
EVENT_TABLES = {"write": "tracking_events", "read": "tracking_events_read_model"}
DATABASES: tuple[Database, ...] = ("write", "read")
# as pg_dump takes them, before it reads anything
LOCK_EVERY_TABLE = """
do $$
declare found regclass;
begin
    for found in select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where n.nspname in ('write', 'read') and c.relkind in ('r', 'p') loop
        execute format('lock table only %s in access share mode', found);
    end loop;
end $$
"""


@asynccontextmanager
async def dump(stack: Stack, database: Database) -> AsyncIterator[None]:
    """A transaction with the locks that pg_dump holds to its end."""
    connection = await asyncpg.connect(stack.write_url() if database == "write" else stack.read_url())
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(LOCK_EVERY_TABLE)
            yield
    finally:
        await connection.close()


async def owner_of(stack: Stack, database: Database) -> Any:
    return await (stack.write() if database == "write" else stack.read())


async def months_of(stack: Stack, database: Database, table: str) -> set[date]:
    """The first days of the months that have an attached partition."""
    rows = await (await owner_of(stack, database)).fetch(
        "select to_date(right(relid::text, 7), 'YYYY_MM') as month from pg_partition_tree($1::text::regclass) "
        "where relid::text ~ '_[0-9]{4}_[0-9]{2}$'",
        f"{database}.{table}",
    )
    return {row["month"] for row in rows}


async def insert_events(stack: Stack, database: Database, ats: list[datetime]) -> None:
    """Insert an event for each of the times, as gateway or projector would, but not waiting longer for a lock."""
    connection = await asyncpg.connect(stack.write_url() if database == "write" else stack.read_url())
    try:
        await postgres.prepare_connection(connection)
        await connection.execute(f"set lock_timeout = '{INSERT_LOCK_TIMEOUT}'")
        shared: dict[str, Any] = {
            "partner_system_id": SYSTEM, "event_name": "page_view", "event_properties": b"{}", "is_valid": True,
            "clock_adjusted": False, "correlation_id": "c", "received_at": datetime.now(UTC),
        }  # fmt: skip
        if database == "read":
            shared |= {
                "partner_id": uuid4(),
                "partner_name": "p",
                "system_name": "s",
                "processed_at": datetime.now(UTC),
            }
        columns = ["id", "event_timestamp", *shared]
        await connection.copy_records_to_table(
            EVENT_TABLES[database],
            schema_name=database,
            columns=columns,
            records=[(derive_event_id(SYSTEM, str(uuid4()), at), at, *shared.values()) for at in ats],
        )
    finally:
        await connection.close()


@asynccontextmanager
async def maintainer(stack: Stack) -> AsyncIterator[PartitionMaintainer]:
    async with open_pool(stack.write_url("relay")) as write, open_pool(stack.read_url("relay")) as read:
        yield PartitionMaintainer(Upkeep(write, read, asyncio.Event()))


@asynccontextmanager
async def open_pool(url: str) -> AsyncIterator[Pool]:
    pool = await postgres.open_pool(url, service="relay", connect_timeout_s=5, query_timeout_s=60)
    try:
        yield pool
    finally:
        await postgres.close_pool(pool)


@pytest.mark.parametrize("database", DATABASES)
async def test_a_dump_stops_no_insert_although_months_are_to_be_created_and_dropped(
    stack: Stack, database: Database
) -> None:
    today = datetime.now(UTC).date()
    [coming] = list_months_around(today, -3, 3)
    [expired] = list_months_around(today, 13, -13)
    owner = await owner_of(stack, database)
    table = EVENT_TABLES[database]
    await owner.execute(f"select {database}.drop_partition($1, $2)", table, coming)
    settings = {**QUICK, "TRACKING_RETENTION_MONTHS": "12", "TRACKING_UPKEEP_INTERVAL_S": "0.2"}
    waiting = f'tracking_partitions_waiting{{database="{database}"}}'

    async with dump(stack, database), run_services(stack, "relay", settings=settings) as relay:
        now, far = datetime.now(UTC), datetime(2080, 1, 1, tzinfo=UTC)
        while await metric(relay, "relay", waiting) < 1 + len(PARTITIONED_TABLES[database]):
            await insert_events(stack, database, [now, far, datetime(expired.year, expired.month, 2, tzinfo=UTC)])
        assert not await owner.fetchval("select count(*) from pg_locks where not granted")

        await relay.stop("relay")

    async with run_services(stack, "relay", settings=settings):

        async def are_right() -> bool:
            months = await months_of(stack, database, table)
            return coming in months and expired not in months

        await until(are_right, bool)


@pytest.mark.parametrize("database", DATABASES)
async def test_what_the_default_partition_holds_gets_partitions_before_it_is_much(
    stack: Stack, database: Database
) -> None:
    much, little = datetime(2004, 2, 29, tzinfo=UTC), datetime(2004, 5, 1, tzinfo=UTC)
    await insert_events(stack, database, [much + timedelta(microseconds=n) for n in range(1_000)] + [little] * 9)

    async with maintainer(stack) as partitions:
        await partitions.maintain()

    owner, table = await owner_of(stack, database), EVENT_TABLES[database]
    months = await months_of(stack, database, table)
    assert date(2004, 2, 1) in months
    assert date(2004, 5, 1) not in months
    assert await owner.fetchval(f"select count(*) from {database}.{table}_default") == 9
    assert await owner.fetchval(f"select count(*) from {database}.{table}_2004_02") == 1_000
    assert not await owner.fetchval("select count(*) from pg_constraint where conname like '%2004_02_month'")


@pytest.mark.parametrize("database", DATABASES)
async def test_rows_that_are_copied_ahead_are_seen_once_and_as_they_are_in_the_end(
    stack: Stack, database: Database
) -> None:
    at, month = datetime(2004, 2, 29, tzinfo=UTC), date(2004, 2, 1)
    owner, table = await owner_of(stack, database), EVENT_TABLES[database]
    await insert_events(stack, database, [at + timedelta(seconds=n) for n in range(100)])
    prepare = f"select {database}.prepare_partition($1, $2, 60)"

    copied = [await owner.fetchval(prepare, table, month) for _ in range(3)]
    visible = await owner.fetchval(f"select count(*) from {database}.{table}")
    some = f"select ctid from {database}.{table}_default order by event_timestamp limit 10"
    await owner.execute(f"update {database}.{table}_default set event_name = 'corrected' where ctid in ({some})")
    await owner.execute(f"delete from {database}.{table}_default where ctid in ({some} offset 50)")
    await insert_events(stack, database, [at + timedelta(hours=1)])
    expected = await owner.fetch(f"select * from {database}.{table} order by id, event_timestamp")

    assert (copied, visible) == ([60, 40, 0], 100)
    assert await owner.fetchval(f"select {database}.create_partition($1, $2)", table, month)
    assert await owner.fetch(f"select * from {database}.{table} order by id, event_timestamp") == expected
    assert len(expected) == 91
    assert await owner.fetchval(f"select count(*) from {database}.{table}_default") == 0


async def test_only_one_relay_keeps_the_partitions(stack: Stack) -> None:
    owner = await stack.write()
    [coming] = list_months_around(datetime.now(UTC).date(), -3, 3)
    await owner.execute("select write.drop_partition('tracking_events', $1)", coming)
    async with maintainer(stack) as partitions:
        async with owner.transaction():
            await owner.execute("select pg_advisory_xact_lock($1)", PARTITIONS_LOCK)
            with pytest.raises(NotLeading):
                await partitions.maintain()
            kept_by_the_other = await months_of(stack, "write", "tracking_events")

        await partitions.maintain()

    assert coming not in kept_by_the_other
    assert coming in await months_of(stack, "write", "tracking_events")


async def test_a_sender_with_any_times_makes_a_bounded_number_of_partitions(stack: Stack) -> None:
    months = list_months_around(date(2050, 1, 1), 80, 80)
    ats = [datetime(month.year, month.month, 3, tzinfo=UTC) for month in months for _ in range(1_000)]
    await insert_events(stack, "write", ats)

    async with maintainer(stack) as partitions:
        await partitions.maintain()

    assert len(await months_of(stack, "write", "tracking_events")) == 120
    assert await (await stack.write()).fetchval("select count(*) from write.tracking_events") == len(ats)
