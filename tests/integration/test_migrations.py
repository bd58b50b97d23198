"""Both schemas can be applied twice, are partitioned by month, and are closed to roles without rights."""

from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from uuid import UUID

import asyncpg
import psycopg
import pytest

from tests.support.events import an_event
from tests.support.polling import until
from tests.support.registry import register_system
from tests.support.stack import Stack
from tracking.domain.ids import derive_dated_id, make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import postgres
from tracking.migrations import ROLES_OF, migrate
from tracking.tables.partitions import list_months_around, list_months_between

SYSTEM = UUID(int=7)


async def insert(stack: Stack, *events: TrackingEvent) -> None:
    owner = await stack.write()
    await postgres.prepare_connection(owner)
    await owner.copy_records_to_table(
        "tracking_events", schema_name="write", columns=TrackingEvent._fields, records=events
    )


async def partitions_of(stack: Stack) -> list[str]:
    owner = await stack.write()
    rows = await owner.fetch("select tableoid::regclass::text as name from write.tracking_events order by id")
    return [row["name"] for row in rows]


DAILY = (files("tracking.migrations") / "read" / "0007.daily_counts.sql").read_text()


async def test_counts_by_day_begin_as_the_sums_of_those_by_hour(stack: Stack) -> None:
    read = await stack.read()
    await read.execute("drop table read.event_counts_daily")
    await read.execute("insert into read.event_counts_hourly select $1, now(), 'a', 1, 1, 0", SYSTEM)
    for hour, total, bots in (("2026-03-01T23:00Z", 3, 1), ("2026-03-02T00:00Z", 5, 0), ("2026-03-02T23:00Z", 7, 2)):
        await read.execute(
            "insert into read.event_counts_hourly values ($1, $2::text::timestamptz, 'b', $3, $4, 1, $5, 1)",
            SYSTEM, hour, total, total - 1, bots,
        )  # fmt: skip

    await read.execute(DAILY)

    days = await read.fetch("select * from read.event_counts_daily where event_name = 'b' order by day")
    assert [tuple(row) for row in days] == [
        (SYSTEM, date(2026, 3, 1), "b", 2, 1, 1, 1),
        (SYSTEM, date(2026, 3, 2), "b", 10, 2, 2, 2),
    ]
    assert await read.fetchval("select sum(valid) from read.event_counts_daily") == 13


async def test_counts_by_day_do_not_begin_beside_a_worker_that_knows_none(stack: Stack) -> None:
    read = await stack.read()
    await read.execute("drop table read.event_counts_daily")
    await read.execute("insert into read.event_counts_hourly select $1, now(), 'a', 1, 1, 0", SYSTEM)
    with psycopg.connect(stack.read_url("statistics")):
        with pytest.raises(asyncpg.RaiseError, match="while statistics workers") as rejected:
            await read.execute(DAILY)
    assert "docker compose stop statistics" in str(rejected.value.hint)

    async def finished() -> int:
        return int(await read.fetchval("select count(*) from pg_stat_activity where usename = 'tracking_statistics'"))

    await until(finished, lambda sessions: sessions == 0)
    await read.execute(DAILY)


async def test_migrating_again_changes_nothing(stack: Stack) -> None:
    await register_system(stack)
    said: list[str] = []

    migrate(stack.write_url(), stack.read_url(), {}, say=said.append)

    assert not [line for line in said if "applying" in line or "database" in line]
    assert "write: 0 monthly partitions created" in said
    assert await (await stack.write()).fetchval("select count(*) from write.partner_systems") == 1


async def test_an_event_lies_in_the_partition_of_its_ids_month(stack: Stack) -> None:
    now = datetime.now(UTC)
    last_month = now.replace(day=1) - timedelta(days=1)

    await insert(
        stack,
        an_event(SYSTEM, derive_dated_id(SYSTEM, "no time", None)),
        an_event(SYSTEM, derive_dated_id(SYSTEM, "long ago", datetime(2004, 2, 29, tzinfo=UTC))),
        an_event(SYSTEM, derive_dated_id(SYSTEM, "last month", last_month)),
        an_event(SYSTEM, make_uuid7(to_unix_ms(now), 1)),
    )

    assert await partitions_of(stack) == [
        "write.tracking_events_undated",
        "write.tracking_events_default",
        f"write.tracking_events_{last_month:%Y_%m}",
        f"write.tracking_events_{now:%Y_%m}",
    ]


async def test_a_late_partition_takes_its_rows_out_of_the_default_one(stack: Stack) -> None:
    await insert(stack, an_event(SYSTEM, derive_dated_id(SYSTEM, "a", datetime(2004, 2, 29, tzinfo=UTC))))
    owner = await stack.write()

    created = [
        await owner.fetchval("select write.create_partition('tracking_events', $1)", date(2004, 2, 1)) for _ in range(2)
    ]

    assert created == [True, False]
    assert await partitions_of(stack) == ["write.tracking_events_2004_02"]


async def test_retention_drops_a_month_whole(stack: Stack) -> None:
    month = list_months_around(datetime.now(UTC).date(), 2, 0)[0]
    await insert(
        stack, an_event(SYSTEM, derive_dated_id(SYSTEM, "a", datetime(month.year, month.month, 3, tzinfo=UTC)))
    )
    owner = await stack.write()

    dropped = [await owner.fetchval("select write.drop_partition('tracking_events', $1)", month) for _ in range(2)]

    assert dropped == [True, False]
    assert await partitions_of(stack) == []


def test_months_are_counted_over_the_turn_of_the_year() -> None:
    months = [date(2025, 11, 1), date(2025, 12, 1), date(2026, 1, 1), date(2026, 2, 1)]

    assert list_months_around(date(2026, 1, 31), 2, 1) == months
    assert list_months_between(date(2025, 11, 30), date(2026, 2, 1)) == months


async def test_a_published_schema_cannot_be_changed_even_by_its_owner(stack: Stack) -> None:
    owner = await stack.write()
    await owner.execute("insert into write.event_structures values ($1, null, 'a', '', now(), now())", SYSTEM)
    await owner.execute(
        "insert into write.event_structure_versions values ($1, 1, '{}', 'published', now(), now())", SYSTEM
    )

    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="immutable"):
        await owner.execute("update write.event_structure_versions set schema = 'true'")


ALLOWED = [
    ("gateway", "write", "select 1 from write.api_keys"),
    ("gateway", "write", "create temporary table staged (n integer)"),
    ("admin", "write", "select 1 from write.access_tokens"),
    ("admin", "write", "update write.dead_letters set state = 'discarded'"),
    ("operate", "write", "update write.dead_letters set state = 'retried'"),
    ("projector", "read", "select open_dead_letters from read.consumer_progress"),
    ("relay", "read", "delete from read.apply_failures"),
    ("relay", "write", "select 1 from write.event_batches"),
    ("relay", "write", "select write.create_partition('tracking_events', '2031-01-01')"),
    ("relay", "read", "select read.create_partition('tracking_events_read_model', '2031-01-01')"),
    ("projector", "read", "select 1 from read.applied_batches"),
    ("statistics", "read", "select 1 from read.event_counts_hourly"),
    ("statistics", "read", "update read.event_counts_daily set valid = valid"),
    ("query", "read", "select 1 from read.event_counts_daily"),
    ("operate", "read", "delete from read.event_counts_daily where day is null"),
    ("query", "read", "select 1 from read.tracking_events_read_model"),
    ("query", "read", "select * from read.final_users(gen_random_uuid())"),
    ("projector", "read", "update read.identities set user_id = user_id"),
    ("operate", "read", "delete from read.identities where id is null"),
    ("query", "read", "select read.text_key(gen_random_uuid(), 'a')"),
    ("projector", "read", "select read.text_key(gen_random_uuid(), 'a')"),
    ("operate", "read", "select read.text_key(gen_random_uuid(), 'a')"),
    ("operate", "write", "select 1 from write.tracking_events"),
    ("operate", "read", "delete from read.tracking_events_read_model where id is null"),
]

FORBIDDEN = [
    ("gateway", "write", "select 1 from write.access_tokens"),
    ("gateway", "write", "update write.tracking_events set is_valid = true"),
    ("gateway", "write", "delete from write.tracking_events"),
    ("gateway", "write", "update write.partners set is_active = true"),
    ("gateway", "write", "update write.api_keys set revoked_at = null"),
    ("gateway", "write", "select write.drop_partition('tracking_events', '2026-01-01')"),
    ("admin", "write", "select 1 from write.tracking_events"),
    ("admin", "write", "delete from write.partners"),
    ("admin", "write", "update write.dead_letters set body = ''"),
    ("operate", "write", "delete from write.dead_letters"),
    ("gateway", "write", "select 1 from write.dead_letters"),
    ("projector", "read", "update read.consumer_progress set open_dead_letters = 0"),
    ("relay", "write", "insert into write.event_batches select * from write.event_batches"),
    ("relay", "write", "select 1 from write.api_keys"),
    ("relay", "read", "select 1 from read.tracking_events_read_model"),
    ("projector", "read", "select 1 from read.tracking_events_read_model"),
    ("projector", "read", "insert into read.event_counts_hourly select * from read.event_counts_hourly"),
    ("projector", "read", "select 1 from read.access_tokens"),
    ("statistics", "read", "insert into read.tracking_events_read_model select * from read.tracking_events_read_model"),
    ("projector", "read", "delete from read.identities"),
    ("statistics", "read", "select 1 from read.identities"),
    ("statistics", "read", "delete from read.event_counts_daily"),
    ("projector", "read", "select 1 from read.event_counts_daily"),
    ("query", "read", "update read.event_counts_daily set valid = valid"),
    ("query", "read", "update read.identities set user_id = user_id"),
    ("query", "read", "insert into read.partner_systems select * from read.partner_systems"),
    ("query", "read", "create table read.mine (n integer)"),
    ("query", "read", "create temporary table mine (n integer)"),
    ("relay", "read", "select read.text_key(gen_random_uuid(), 'a')"),
    ("statistics", "read", "select read.text_key(gen_random_uuid(), 'a')"),
    ("operate", "write", "update write.tracking_events set is_valid = true"),
    ("operate", "write", "delete from write.event_batches"),
    ("operate", "write", "select 1 from write.api_keys"),
    ("operate", "read", "select 1 from read.access_tokens"),
    ("operate", "read", "select read.drop_partition('applied_batches', '2026-01-01')"),
]


@pytest.mark.parametrize(("role", "database", "statement"), ALLOWED)
async def test_a_service_may_do_its_work(stack: Stack, role: str, database: str, statement: str) -> None:
    url = stack.write_url(role) if database == "write" else stack.read_url(role)

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(("role", "database", "statement"), FORBIDDEN)
async def test_a_service_may_do_nothing_else(stack: Stack, role: str, database: str, statement: str) -> None:
    url = stack.write_url(role) if database == "write" else stack.read_url(role)

    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


@pytest.mark.parametrize("database", ["write", "read"])
async def test_a_role_gets_only_into_its_own_databases(stack: Stack, database: str) -> None:
    others = {role for roles in ROLES_OF.values() for role in roles} - set(ROLES_OF[database])

    for role in sorted(others):
        url = stack.write_url(role) if database == "write" else stack.read_url(role)
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(url)
