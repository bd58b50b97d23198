"""Binary COPY: asyncpg reads back the values that were written, and values that a column cannot hold are rejected."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.stack import Stack
from tracking.infra import copy_binary, postgres
from tracking.infra.copy_binary import CopyRows, Encoder
from tracking.infra.private_members import PrivateMembers

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]  # generic only in its stubs

AT = datetime(2026, 11, 23, 10, 30, 0, 123456, tzinfo=UTC)
IDS = [uuid4() for _ in range(3)]
ENCODERS: dict[str, Encoder] = {
    "id": copy_binary.encode_uuids,
    "id_text": copy_binary.encode_uuids_from_text,
    "name": copy_binary.encode_texts,
    "at": copy_binary.encode_timestamps,
    "at_again": copy_binary.encode_timestamps,
    "at_text": copy_binary.encode_timestamps_from_text,
    "document": copy_binary.encode_jsonb_values,
    "document_text": copy_binary.encode_jsonb_from_text,
    "flag": copy_binary.encode_booleans,
    "number": copy_binary.encode_integers,
}
TABLE = """
create temporary table kinds (
    id uuid, id_text uuid, name text, at timestamptz, at_again timestamptz, at_text timestamptz,
    document jsonb, document_text jsonb, flag boolean, number integer
)
"""


@pytest.fixture
async def connection(stack: Stack) -> "Connection":
    connection = await stack.write()
    await postgres.prepare_connection(connection)
    await connection.execute(TABLE)
    return connection


async def copied(connection: "Connection", *groups: Sequence[Sequence[Any]]) -> int:
    return await copy_binary.copy(connection, "kinds", schema="pg_temp", encoders=ENCODERS, groups=groups)


def columns(rows: int, /, **given: Sequence[Any]) -> list[Sequence[Any]]:
    usual: dict[str, Sequence[Any]] = {
        "id": IDS[:rows],
        "id_text": [str(id_) for id_ in IDS[:rows]],
        "name": ["page_view"] * rows,
        "at": [AT] * rows,
        "at_again": [AT] * rows,
        "at_text": [AT.isoformat()] * rows,
        "document": [b'{"a": 1}'] * rows,
        "document_text": ['{"a": 1}'] * rows,
        "flag": [True] * rows,
        "number": [7] * rows,
    }
    return list((usual | given).values())


async def test_every_kind_of_value_comes_back(connection: "Connection") -> None:
    far = [
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        AT.astimezone(timezone(timedelta(hours=7))),
    ]
    long = "ü" * 5_000
    varied = columns(
        3,
        name=["", long, "Đăng ký ✓ 😀 \t\\N"],
        at=far,
        at_again=[None, AT, None],
        at_text=[None, "1999-12-31T23:59:59.999999Z", "2026-11-23T10:30:00+07:00"],
        document=[None, b'{"deep": ["\\u00fc", 1.5]}', b'"%b"' % long.encode()],
        document_text=["null", None, '["ü"]'],
        flag=[True, False, True],
        number=[None, -(2**31), 2**31 - 1],
    )

    assert await copied(connection, varied) == 3

    rows = await connection.fetch("select * from kinds")
    assert [row["id"] for row in rows] == [row["id_text"] for row in rows] == IDS
    assert [row["name"] for row in rows] == ["", long, "Đăng ký ✓ 😀 \t\\N"]
    assert [row["at"] for row in rows] == far
    assert [row["at_again"] for row in rows] == [None, AT, None]
    assert [row["at_text"] for row in rows] == [
        None,
        datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 11, 23, 3, 30, tzinfo=UTC),
    ]
    assert [row["document"] for row in rows] == [None, '{"deep": ["ü", 1.5]}'.encode(), f'"{long}"'.encode()]
    assert [row["document_text"] for row in rows] == [b"null", None, '["ü"]'.encode()]
    assert [row["flag"] for row in rows] == [True, False, True]
    assert [row["number"] for row in rows] == [None, -(2**31), 2**31 - 1]


async def test_groups_and_constants_and_empty_columns(connection: "Connection") -> None:
    empty: dict[str, Sequence[Any]] = {
        name: [None, None] for name in ("name", "at", "at_again", "at_text", "document", "document_text", "number")
    }

    assert await copied(connection, columns(1), columns(2, **empty), columns(3, flag=[False] * 3)) == 6

    rows = await connection.fetch("select * from kinds")
    assert [row["id"] for row in rows] == [*IDS[:1], *IDS[:2], *IDS]
    assert [row["name"] for row in rows] == ["page_view", None, None, *["page_view"] * 3]
    assert [row["at_text"] for row in rows] == [AT, None, None, AT, AT, AT]
    assert [row["flag"] for row in rows] == [True] * 3 + [False] * 3
    assert [row["number"] for row in rows] == [7, None, None, 7, 7, 7]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "no UUID object"),
        ("id_text", "00000000-0000-0000-0000-00000000000"),
        ("id_text", "not hexadecimal"),
        ("id_text", None),
        ("name", 5),
        ("name", "\ud800"),
        ("at", AT.replace(tzinfo=None)),
        ("at", "2026-11-23"),
        ("at_text", "yesterday"),
        ("at_text", "2026-11-23T10:30:00"),
        ("document", "text instead of bytes"),
        ("document_text", {"an": "object"}),
        ("flag", 1),
        ("flag", None),
        ("number", 2**31),
        ("number", "5"),
    ],
)
@pytest.mark.parametrize("rows", [1, 2])
async def test_what_a_column_cannot_hold_is_rejected_and_nothing_is_stored(
    connection: "Connection", name: str, value: Any, rows: int
) -> None:
    column = columns(rows)[list(ENCODERS).index(name)]

    with pytest.raises((ValueError, TypeError, AttributeError)):
        await copied(connection, columns(2), columns(rows, **{name: [*column[1:], value]}))

    assert await copied(connection, columns(1)) == 1, "the connection is as good as before"
    assert await connection.fetchval("select count(*) from kinds") == 1


async def test_what_postgresql_rejects_leaves_the_connection_usable(connection: "Connection") -> None:
    with pytest.raises(asyncpg.DataError):
        await copied(connection, columns(1, document=[b"{no json"]))
    with pytest.raises(asyncpg.DataError):
        await copied(connection, columns(2, name=["a", "\x00"]))

    assert await copied(connection, columns(2)) == 2
    assert await connection.fetchval("select count(*) from kinds") == 2


LISTS: dict[str, Encoder] = {"name": copy_binary.encode_texts, "ids": copy_binary.encode_uuid_arrays}


UNTESTED = PrivateMembers("asyncpg", "no version", {})


@pytest.fixture(params=[copy_binary.ASYNCPG, UNTESTED], ids=["pipelined", "in_turn"])
async def lists(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, connection: "Connection"
) -> "Connection":
    """With a second table to copy into; both with the tested asyncpg and as if it were another one."""
    monkeypatch.setattr(copy_binary, "ASYNCPG", request.param)
    await connection.execute("create temporary table lists (name text unique, ids uuid[])")
    return connection


async def begun_with(connection: "Connection", lists: Sequence[Sequence[Any]], kinds: Sequence[Sequence[Any]]) -> int:
    return await copy_binary.begin_and_copy(
        connection, CopyRows("pg_temp.lists", LISTS, lists), CopyRows("pg_temp.kinds", ENCODERS, kinds)
    )


async def test_two_tables_in_one_transaction(lists: "Connection") -> None:
    same = [IDS[0]] * 3

    assert await begun_with(lists, [["varied", "same", "one"], [IDS, same, IDS[:1]]], columns(2)) == 2
    assert lists.is_in_transaction()
    await lists.execute("commit")

    rows = await lists.fetch("select name, ids, ids[1] as first from lists")
    assert [tuple(row) for row in rows] == [
        ("varied", IDS, IDS[0]),
        ("same", same, IDS[0]),
        ("one", IDS[:1], IDS[0]),
    ]
    assert await lists.fetchval("select count(*) from kinds") == 2


@pytest.mark.parametrize(
    ("of_lists", "of_kinds", "rejected_by"),
    [
        (["once", "once"], columns(2), "COPY lists"),
        (["once", "twice"], columns(2, name=["a", "\x00"]), "COPY kinds"),
    ],
)
async def test_a_rejected_row_of_either_table_undoes_both(
    lists: "Connection", of_lists: list[str], of_kinds: Sequence[Sequence[Any]], rejected_by: str
) -> None:
    with pytest.raises(asyncpg.PostgresError) as rejection:
        await begun_with(lists, [of_lists, [IDS, IDS]], of_kinds)
    assert str(rejection.value.context).startswith(rejected_by)
    assert lists.is_in_transaction()
    await lists.execute("rollback")

    # the rest of the rows was on its way when PostgreSQL said no: it must not be taken for what comes now
    assert await begun_with(lists, [["again"], [IDS]], columns(1)) == 1
    await lists.execute("commit")
    assert await lists.fetchval("select count(*) from lists") == await lists.fetchval("select count(*) from kinds") == 1


async def test_nothing_is_begun_for_what_a_column_cannot_hold(lists: "Connection") -> None:
    with pytest.raises(TypeError):
        await begun_with(lists, [["name"], [IDS]], columns(1, flag=[1]))

    assert not lists.is_in_transaction()


def test_ids_of_systems_may_be_equal_without_being_the_same() -> None:
    first, again = UUID(int=1), UUID(int=1)

    assert copy_binary.encode_rows([copy_binary.encode_uuids], [[first, again]]) == copy_binary.encode_rows(
        [copy_binary.encode_uuids], [[first, first]]
    )
