"""Text keys, which are indexed in place of texts: they change no response, and each partition has their indexes."""

import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files

import asyncpg
import pytest

from services.query import actors, database, events, statistics
from services.query.actors import Actor
from services.query.conditions import EventFilters
from services.query.cursor import PagePosition
from services.query.time_range import TimeRange
from tests.support.read_model import COLUMNS, Seen, System, add_events, add_system
from tests.support.stack import Stack
from tracking.infra import postgres

START = datetime(2025, 11, 1, tzinfo=UTC)
STEP = timedelta(minutes=1)
ALL = TimeRange(START, START + timedelta(days=1))
EVENTS = 3 * 5 * 7 * 11

# all texts of all systems
_COLLIDING = """
create or replace function read.text_key(partner_system_id uuid, value text) returns bigint
    language sql immutable strict parallel safe
    return 7
"""

_OF_ANOTHER_KEY = """
select count(*)
  from read.tracking_events_read_model
 where read.text_key(partner_system_id, event_name) <> 7
"""


@pytest.fixture
async def connection(stack: Stack) -> AsyncIterator[postgres.Connection]:
    """As one of query's, but never without an index."""
    settings = {"timezone": "UTC", "enable_seqscan": "off"}
    connection = await asyncpg.connect(stack.read_url("query"), server_settings=settings)
    try:
        await postgres.prepare_connection(connection)
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def system(stack: Stack) -> System:
    """One of two systems with the same texts, all of which have one key."""
    owner = await stack.read()
    await owner.execute(_COLLIDING)
    await owner.execute("reindex table read.tracking_events_read_model")
    systems = [await add_system(stack), await add_system(stack)]
    for system in systems:
        await add_events(
            stack,
            system,
            [
                Seen(
                    START + n * STEP,
                    f"name_{n % 3}",
                    user_id=f"user_{n % 5}",
                    anonymous_id=f"anon_{n % 7}",
                    correlation_id=f"{n % 11}",
                )
                for n in range(EVENTS)
            ],
        )
    assert await owner.fetchval(_OF_ANOTHER_KEY) == 0
    return systems[0]


async def test_texts_with_the_same_key_are_not_taken_for_each_other(
    connection: postgres.Connection, system: System
) -> None:
    for filters in (
        EventFilters(event_name="name_1"),
        EventFilters(user_id="user_1"),
        EventFilters(anonymous_id="anon_1"),
        EventFilters(correlation_id="1"),
        EventFilters(event_name="name_1", user_id="user_1", anonymous_id="anon_1"),
        EventFilters(event_name="name_1", user_id="user_1", anonymous_id="anon_1", correlation_id="1"),
    ):
        page = await events.list_events(
            connection, system.id, PagePosition.at_start(ALL), filters, limit=EVENTS, offset=0
        )

        assert len(page) == await events.count_events(connection, system.id, ALL, filters) == _expected(filters)
        assert all(_has(row, system, filters) for row in page)


async def test_counts_of_a_name_leave_out_names_with_the_same_key(
    connection: postgres.Connection, system: System
) -> None:
    within = TimeRange(START, START + 32 * STEP)

    assert await statistics.count_by_kind(connection, system.id, within, "name_1") == (11, 0, 0, 0)


async def test_events_of_an_actor_leave_out_ids_with_the_same_key(
    connection: postgres.Connection, system: System
) -> None:
    first = PagePosition.at_start(ALL)
    for filters in (
        EventFilters(),
        EventFilters(event_name="name_1"),
        EventFilters(event_name="name_1", correlation_id="1"),
    ):
        for actor, number in ((Actor(["user_1"], []), _expected(filters) // 5), (Actor([], ["anon_1"]), 0)):
            page = await actors.list_actor_events(connection, system.id, actor, first, filters, limit=EVENTS, offset=0)

            assert len(page) == await actors.count_actor_events(connection, system.id, actor, ALL, filters) == number
            assert all(row["user_id"] == "user_1" and _has(row, system, filters) for row in page)


def _expected(filters: EventFilters) -> int:
    number = EVENTS
    for value, values in (
        (filters.event_name, 3),
        (filters.user_id, 5),
        (filters.anonymous_id, 7),
        (filters.correlation_id, 11),
    ):
        number //= values if value else 1
    return number


def _has(row: database.Row, system: System, filters: EventFilters) -> bool:
    wanted = {name: value for name, value in asdict(filters).items() if value is not None}
    return row["partner_system_id"] == system.id and {name: row[name] for name in wanted} == wanted


_FOLDER = files("tracking.migrations") / "read"
_MIGRATION = (_FOLDER / "0008.text_keys.sql").read_text()
_BEFORE = re.findall(
    r"^create index tracking_events_read_model_(?:name|user|anonymous|correlation)_idx\b[^;]*;",
    (_FOLDER / "0001.read_model.sql").read_text(),
    re.MULTILINE,
)

_TAKE_BACK = """
drop index read.tracking_events_read_model_name_key_idx,
           read.tracking_events_read_model_user_key_idx,
           read.tracking_events_read_model_anonymous_key_idx,
           read.tracking_events_read_model_correlation_key_idx;
drop function read.text_key
"""

# of each partition, what its indexes are about, and of which index of the whole table they are part
_INDEXES = """
select indrelid::regclass::text as partition,
       regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', '') as index,
       inhparent::regclass::text as part_of,
       indisvalid as is_valid
  from pg_partition_tree('read.tracking_events_read_model')
  join pg_index on indrelid = relid
  left join pg_inherits on inhrelid = indexrelid
 where isleaf
"""

_OF_THE_TABLE = """
select indexrelid::regclass::text as name, regexp_replace(pg_get_indexdef(indexrelid), '^.* USING', '') as index
  from pg_index
 where indrelid = 'read.tracking_events_read_model'::regclass
"""

_CREATE_PARTITION = "select read.create_partition('tracking_events_read_model', $1)"


async def test_each_partition_has_each_index_once_whether_it_was_there_before_or_comes_later(stack: Stack) -> None:
    owner = await stack.read()
    await owner.execute(_TAKE_BACK)
    for statement in _BEFORE:
        await owner.execute(statement)
    system = await add_system(stack)
    await add_events(stack, system, [Seen(START, user_id="u1")])

    await owner.execute(_MIGRATION)
    await _insert_without_partition(stack, system, datetime(2004, 2, 29, tzinfo=UTC))
    relay = await asyncpg.connect(stack.read_url("relay"))
    try:
        # what a session has seen of an index before, with its own rights, must make no difference
        assert await relay.fetchval("select count(*) from read.tracking_events_read_model_default") == 1
        assert await relay.fetchval(_CREATE_PARTITION, date(2004, 2, 1))
        assert await relay.fetchval("select count(*) from read.tracking_events_read_model_default") == 0
    finally:
        await relay.close()

    of_the_table = {row["name"]: row["index"] for row in await owner.fetch(_OF_THE_TABLE)}
    assert len(_BEFORE) == sum("text_key" in index for index in of_the_table.values()) == 4
    found = await owner.fetch(_INDEXES)
    partitions = {row["partition"].removeprefix("read.tracking_events_read_model_") for row in found}
    assert {"default", "2004_02", "2025_11"} <= partitions
    assert all(row["is_valid"] and of_the_table[row["part_of"]] == row["index"] for row in found)
    assert len(found) == len(partitions) * len(of_the_table)
    assert len({(row["partition"], row["part_of"]) for row in found}) == len(found)


async def _insert_without_partition(stack: Stack, system: System, at: datetime) -> None:
    """As the projector, whose rights the keys are made with."""
    projector = await asyncpg.connect(stack.read_url("projector"))
    try:
        await postgres.prepare_connection(projector)
        await projector.copy_records_to_table(
            "tracking_events_read_model",
            schema_name="read",
            columns=COLUMNS,
            records=[Seen(at, user_id="u1").row(system)],
        )
    finally:
        await projector.close()


async def test_an_insert_calls_no_function_for_its_keys(stack: Stack) -> None:
    owner = await stack.read()
    await owner.execute("set track_functions = 'all'")
    await owner.execute("select read.create_partition('tracking_events_read_model', $1)", START.date())
    system = await add_system(stack)
    await postgres.prepare_connection(owner)

    await owner.copy_records_to_table(
        "tracking_events_read_model", schema_name="read", columns=COLUMNS, records=[Seen(START).row(system)]
    )

    await owner.execute("select pg_stat_force_next_flush()")
    called = await owner.fetch("select funcname from pg_stat_user_functions")
    assert {row["funcname"] for row in called} <= {"create_partition", "prepare_partition"}
