"""Rows in the binary format of COPY, encoded column by column (PostgreSQL manual, COPY, "Binary Format").

asyncpg's own encoder goes value by value and takes three times as long for rows of events, most of whose columns hold
the same value in every row, or none. The encoders are strict about types, because PostgreSQL takes a wrong length for a
broken connection, and the error would not say which value caused it.
"""

import struct
from collections.abc import AsyncIterator, Callable, Collection, Generator, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from tracking.infra import postgres
from tracking.infra.postgres import Connection, DedicatedConnection
from tracking.infra.private_members import PrivateMembers

# `_PipelinedCopy` writes to the transport of a connection, between two steps of its `execute`
ASYNCPG = PrivateMembers("asyncpg", "0.32.0", {asyncpg.Connection: ("_transport", "execute", "copy_to_table")})

# one value for all rows, or one for each
EncodedColumn = bytes | list[bytes]
# of a column that is not empty; raises ValueError or TypeError for what its type cannot hold
Encoder = Callable[[Sequence[Any]], EncodedColumn]
Columns = Sequence[Sequence[Any]]

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_TRUE = b"\x00\x00\x00\x01\x01"
_FALSE = b"\x00\x00\x00\x01\x00"
_UUID_BYTES = 16
_UUID_SIZE = b"\x00\x00\x00\x10"
_JSONB_VERSION = b"\x01"
_ONE_DIMENSION = 1
_NO_NULLS = 0
_UUID_OID = 2950
_FIRST_INDEX = 1
# of a message's length, which counts itself
_SIZE_BYTES = 4
# a message of PostgreSQL's protocol: this COPY's rows are all there
_COPY_DONE = b"c\x00\x00\x00\x04"
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_field_count = struct.Struct(">h").pack
_size = struct.Struct(">i").pack
_int4 = struct.Struct(">ii").pack
_int8 = struct.Struct(">iq").pack
_array_header = struct.Struct(">iiiii").pack
# the lengths of nearly all values, so that they need not be packed each time
_SIZES = [_size(number) for number in range(4096)]
_MANY = len(_SIZES)


async def copy(
    connection: Connection, table: str, *, schema: str, encoders: Mapping[str, Encoder], groups: Iterable[Columns]
) -> int:
    """Copy groups of rows, each given as columns in the order of `encoders`; return how many rows were stored.

    `encoders` are by column name. Raises ValueError or TypeError for a value that is not of its column's type,
    otherwise what asyncpg raises; no row is stored then.
    """
    answer = await connection.copy_to_table(
        table, schema_name=schema, columns=list(encoders), source=_stream(encoders.values(), groups), format="binary"
    )
    return postgres.parse_row_count(answer)


class CopyRows(NamedTuple):
    """The rows for one table: `schema.name`, its columns with their encoders, and these columns, equally long."""

    table: str
    encoders: Mapping[str, Encoder]
    columns: Columns


async def begin_and_copy(connection: DedicatedConnection, *copies: CopyRows, begin: str = "begin") -> int:
    """Begin a transaction and copy into several tables, in one round trip; return how many rows the last one stored.

    `begin` are the statements before the first COPY. The caller commits or rolls back. Raises
    ValueError or TypeError before anything is sent for a value that is not of its column's type, otherwise what asyncpg
    raises: the transaction is then begun and has failed. With an asyncpg that was not tested it takes a round trip for
    each statement.
    """
    streams = [_HEADER + encode_rows(rows.encoders.values(), rows.columns) + _TRAILER for rows in copies]
    if not ASYNCPG.is_usable():
        return await _begin_and_copy_in_turn(connection, begin, copies, streams)
    statements = [f"copy {rows.table} ({', '.join(rows.encoders)}) from stdin (format binary)" for rows in copies]
    data = b"".join(b"d%b%b%b" % (_size(len(stream) + _SIZE_BYTES), stream, _COPY_DONE) for stream in streams)
    return postgres.parse_row_count(await _PipelinedCopy(connection, "; ".join([begin, *statements]), data))


async def _begin_and_copy_in_turn(
    connection: DedicatedConnection, begin: str, copies: Sequence[CopyRows], streams: Sequence[bytes]
) -> int:
    """As `begin_and_copy`, by asyncpg's public interface alone."""
    await connection.execute(begin)
    answer = ""
    for rows, stream in zip(copies, streams, strict=True):
        schema, _, table = rows.table.rpartition(".")
        answer = await connection.copy_to_table(
            table, schema_name=schema, columns=list(rows.encoders), source=_send_whole(stream), format="binary"
        )
    return postgres.parse_row_count(answer)


class _PipelinedCopy:
    """Sends COPY statements and their rows in one go, as CopyData and CopyDone, without waiting for the server's word.

    asyncpg's own COPY waits for the server's CopyInResponse before it sends rows, which costs a turn of the event loop;
    its `execute` ignores the CopyInResponse. If a statement fails, PostgreSQL discards the rows that follow it
    (PostgreSQL manual, "COPY Operations"). asyncpg's public way takes 1.8 times this process's CPU time for a batch row
    and 64 events (0.40 and 0.22 ms), 2.6 times for one event (docs/benchmarks.md, "Private members").
    """

    def __init__(self, connection: DedicatedConnection, statements: str, data: bytes) -> None:
        self._connection = connection
        self._statements = statements
        self._data = data

    def __await__(self) -> Generator[Any, Any, str]:
        steps = self._connection.execute(self._statements).__await__()
        # asyncpg has sent the statements when it waits for the first time
        waiting = next(steps)
        self._connection._transport.write(self._data)  # type: ignore[attr-defined]
        try:
            yield waiting
        except BaseException as interruption:
            steps.throw(interruption)
            raise
        return (yield from steps)


async def _send_whole(stream: bytes) -> AsyncIterator[bytes]:
    # asyncpg would read a file object in a thread
    yield stream


async def _stream(encoders: Collection[Encoder], groups: Iterable[Columns]) -> AsyncIterator[bytes]:
    """Group by group, so that PostgreSQL stores one while the next is encoded."""
    start = _HEADER
    for columns in groups:
        yield start + encode_rows(encoders, columns)
        start = b""
    yield start + _TRAILER


def encode_rows(encoders: Iterable[Encoder], columns: Columns) -> bytes:
    """Rows as they stand between header and trailer; the columns are equally long and not empty."""
    # constants side by side become one, as most columns of most rows are
    parts: list[EncodedColumn] = [_field_count(len(columns))]
    before: tuple[Encoder | None, Sequence[Any], EncodedColumn] = (None, (), b"")
    for encoder, column in zip(encoders, columns, strict=True):
        # a repeated column is encoded once: the time of an event mostly is the time that its client gave
        is_repeated = encoder is before[0] and column == before[1]
        encoded = before[2] if is_repeated else encoder(column)
        before = (encoder, column, encoded)
        last = parts[-1]
        if isinstance(encoded, bytes) and isinstance(last, bytes):
            parts[-1] = last + encoded
        else:
            parts.append(encoded)
    number = len(columns[0])
    rows = zip(*(repeat(part, number) if isinstance(part, bytes) else part for part in parts), strict=True)
    return b"".join(chain.from_iterable(rows))


def _is_constant(values: Sequence[Any]) -> bool:
    return values[0] == values[-1] and values.count(values[0]) == len(values)


def _sized(data: bytes) -> bytes:
    return (_SIZES[len(data)] if len(data) < _MANY else _size(len(data))) + data


def encode_texts(values: Sequence[str | None]) -> EncodedColumn:
    """text. UnicodeEncodeError, a ValueError, for half of a surrogate pair."""
    if _is_constant(values):
        return _NULL if values[0] is None else _sized(str.encode(values[0]))
    return [_NULL if value is None else _sized(str.encode(value)) for value in values]


def encode_jsonb_values(values: Sequence[bytes | None]) -> EncodedColumn:
    """jsonb, from its JSON text in UTF-8."""
    if _is_constant(values):
        return _NULL if values[0] is None else _sized(_JSONB_VERSION + values[0])
    return [_NULL if value is None else _sized(_JSONB_VERSION + value) for value in values]


def encode_jsonb_from_text(values: Sequence[str | None]) -> EncodedColumn:
    """jsonb, from its JSON text."""
    return encode_jsonb_values([None if value is None else str.encode(value) for value in values])


def encode_uuids(values: Sequence[UUID]) -> EncodedColumn:
    """uuid."""
    # comparing them takes long, so only what may well be one and the same
    if values[0] is values[-1] and _is_constant(values):
        return _UUID_SIZE + values[0].bytes
    return [_UUID_SIZE + value.bytes for value in values]


def encode_uuid_arrays(values: Sequence[Sequence[UUID]]) -> EncodedColumn:
    """uuid[], none of them empty."""
    return [_sized(_uuid_array(value)) for value in values]


def _uuid_array(ids: Sequence[UUID]) -> bytes:
    items = encode_uuids(ids)
    header = _array_header(_ONE_DIMENSION, _NO_NULLS, _UUID_OID, len(ids), _FIRST_INDEX)
    return header + (items * len(ids) if isinstance(items, bytes) else b"".join(items))


def encode_uuids_from_text(values: Sequence[str]) -> EncodedColumn:
    """uuid, from its text."""
    encoded = [bytes.fromhex(value.replace("-", "")) for value in values]
    if any(len(data) != _UUID_BYTES for data in encoded):
        raise ValueError("an id that is no UUID")
    return [_UUID_SIZE + data for data in encoded]


def encode_timestamps(values: Sequence[datetime | None]) -> EncodedColumn:
    """timestamptz; TypeError for a time without a time zone."""
    if _is_constant(values):
        return _timestamps(values[:1])[0]
    return _timestamps(values)


def encode_timestamps_from_text(values: Sequence[str | None]) -> EncodedColumn:
    """timestamptz, from ISO 8601 with a time zone."""
    if _is_constant(values):
        return _timestamps(_parsed(values[:1]))[0]
    return _timestamps(_parsed(values))


def _parsed(texts: Sequence[str | None]) -> list[datetime | None]:
    """One object for texts side by side that are equal, as the receive times of a request are."""
    parsed: list[datetime | None] = [None] * len(texts)
    last, at = None, None
    for position, text in enumerate(texts):
        if text != last:
            last, at = text, None if text is None else datetime.fromisoformat(text)
        parsed[position] = at
    return parsed


def _timestamps(values: Sequence[datetime | None]) -> list[bytes]:
    encoded = [_NULL] * len(values)
    # events of one request, and requests of one millisecond, have one and the same receive time
    last, data = None, _NULL
    for position, value in enumerate(values):
        if value is not last:
            last, data = value, _NULL if value is None else _int8(8, (value - _EPOCH) // _MICROSECOND)
        encoded[position] = data
    return encoded


def encode_booleans(values: Sequence[bool]) -> EncodedColumn:
    """boolean; TypeError for what is only like one."""
    if not set(map(type, values)) <= {bool}:
        raise TypeError("a boolean that is none")
    if _is_constant(values):
        return _TRUE if values[0] else _FALSE
    return [_TRUE if value else _FALSE for value in values]


def encode_integers(values: Sequence[int | None]) -> EncodedColumn:
    """integer; ValueError for what is none of 32 bits."""
    try:
        if _is_constant(values):
            return _NULL if values[0] is None else _int4(4, values[0])
        return [_NULL if value is None else _int4(4, value) for value in values]
    except struct.error as fault:
        raise ValueError(f"no integer of 32 bits: {fault}") from fault
