"""Writes a micro-batch: its events and its batch row are committed in one transaction with fsync, or not at all.

COPY is tried first, because nearly every event is new. On a duplicate the transaction is rolled back, and the rows go
through a temporary table with ON CONFLICT DO NOTHING. The batch row also shows whether a commit succeeded: if the
connection breaks during a commit, the next attempt looks for that row.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import copy_binary, postgres
from tracking.infra.copy_binary import Columns, CopyRows
from tracking.infra.postgres import Connection, DedicatedConnection
from tracking.tables import event_batches
from tracking.tables.event_batches import BATCH_ENCODERS, BatchRow
from tracking.tables.event_columns import WRITE_ENCODERS


class RowSkipped(Exception):
    """A trigger of the table skipped the row without raising an error (it returned NULL).

    The event must not be reported as stored.
    """


# Errors of PostgreSQL, or of asyncpg, that mean that one row can never be stored; the other rows still can.
ROW_ERRORS: tuple[type[BaseException], ...] = (
    RowSkipped,
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.WithCheckOptionViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.CardinalityViolationError,
    # This is the error of a trigger's RAISE.
    asyncpg.TriggeredActionError,
    asyncpg.TriggeredDataChangeViolationError,
    asyncpg.PLPGSQLError,
    asyncpg.SQLRoutineError,
    asyncpg.ExternalRoutineError,
    asyncpg.ExternalRoutineInvocationError,
    ValueError,
    OverflowError,
    TypeError,
)

_CONNECT_ERRORS: tuple[type[BaseException], ...] = (*postgres.POSTGRES_ERRORS, ValueError)
# A client's time that is further away than this may lie in a month for which no partition is meant to exist.
_MAX_DISTANCE_TO_PARTITIONS = timedelta(days=28)

_CREATE_STAGING = """
create temporary table if not exists staged_events
    (like write.tracking_events)
    on commit delete rows
"""

_INSERT_NEW = """
insert into write.tracking_events
select *
  from pg_temp.staged_events
 order by partner_system_id, id
    on conflict (partner_system_id, id) do nothing
returning id
"""

_COUNT_STORED = """
select count(*)
  from pg_temp.staged_events as staged
  join write.tracking_events as stored using (partner_system_id, id)
"""


class EventStore:
    """Stores events over its own connections, one for each commit in progress; a broken one is opened again."""

    def __init__(self, url: str, *, connect_timeout_s: float) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[DedicatedConnection] = []

    async def commit(
        self,
        batch_id: UUID,
        created_at: datetime,
        events: Sequence[TrackingEvent],
        *,
        is_retry: bool,
        timeout_s: float,
    ) -> frozenset[UUID] | None:
        """Store the events that are new, with their batch row; return the ids of those, or None if all were new.

        The ids within `events` are unique for each system. After a failure whose outcome is unknown, call it again with
        the same batch id and `is_retry`. After `timeout_s` the connection is cut. Raises postgres.TRANSIENT_ERRORS
        (nothing is known to be stored), ROW_ERRORS (nothing is stored, and at least one row can never be) or another
        PostgresError (nothing is stored; trying the rows one by one shows whether a row is the cause).
        """
        connection = await self._open(timeout_s)
        # The connection is cut rather than the task cancelled, because a cancelled transaction would wait for its
        # rollback.
        watchdog = asyncio.get_running_loop().call_later(timeout_s, connection.terminate)
        try:
            stored = await self._commit(connection, batch_id, created_at, events, is_retry=is_retry)
        except AttributeError as error:
            # asyncpg raises this between two messages of a statement if the connection was cut and has no protocol any
            # more.
            was_cut = connection.is_closed()
            connection.terminate()
            if was_cut:
                raise ConnectionError("the connection was cut at the deadline") from error
            raise
        except BaseException as error:
            # The search for a bad row continues on this connection; after any other error the protocol's state may be
            # unknown.
            if not isinstance(error, ROW_ERRORS) or connection.is_closed() or connection.is_in_transaction():
                connection.terminate()
            else:
                self._idle.append(connection)
            raise
        finally:
            watchdog.cancel()
        self._idle.append(connection)
        return stored

    async def _commit(
        self,
        connection: DedicatedConnection,
        batch_id: UUID,
        created_at: datetime,
        events: Sequence[TrackingEvent],
        *,
        is_retry: bool,
    ) -> frozenset[UUID] | None:
        if is_retry and (known := await self._known(connection, batch_id)) is not None:
            return known
        try:
            if await self._commit_all(connection, batch_id, created_at, events):
                return None
            return await self._commit_new(connection, batch_id, created_at, events)
        except ROW_ERRORS as fault:
            if _is_of_batch_row(fault):
                raise OSError(f"no batch row: {describe_row_error(fault)}") from fault  # no event had a part in it
            raise

    async def _commit_all(
        self, connection: DedicatedConnection, batch_id: UUID, created_at: datetime, events: Sequence[TrackingEvent]
    ) -> bool:
        """Store all events, and return True; return False and store nothing if one of them is stored already."""
        batch = CopyRows("write.event_batches", BATCH_ENCODERS, _batch_columns(batch_id, created_at, events))
        try:
            # The commit is not sent together with the rows: if a trigger skipped a row, everything must be rolled
            # back.
            stored = await copy_binary.begin_and_copy(
                connection, batch, CopyRows("write.tracking_events", WRITE_ENCODERS, _columns(events))
            )
            _require_all(stored, events)
            await connection.execute("commit")
        except ROW_ERRORS as fault:
            if connection.is_in_transaction():
                await connection.execute("rollback")
            if isinstance(fault, asyncpg.UniqueViolationError) and not _is_of_batch_row(fault):
                return False
            raise
        return True

    async def _commit_new(
        self, connection: Connection, batch_id: UUID, created_at: datetime, events: Sequence[TrackingEvent]
    ) -> frozenset[UUID]:
        await connection.execute(_CREATE_STAGING)
        async with connection.transaction():
            staged = await copy_binary.copy(
                connection, "staged_events", schema="pg_temp", encoders=WRITE_ENCODERS, groups=[_columns(events)]
            )
            _require_all(staged, events)
            stored = frozenset(row["id"] for row in await connection.fetch(_INSERT_NEW))
            _require_all(await connection.fetchval(_COUNT_STORED), events)
            if stored:
                batch = _batch_columns(batch_id, created_at, [event for event in events if event.id in stored])
                await copy_binary.copy(
                    connection, "event_batches", schema="write", encoders=BATCH_ENCODERS, groups=[batch]
                )
        # An earlier attempt of this process may still have been committing meanwhile.
        known = None if stored else await self._known(connection, batch_id)
        return stored if known is None else known

    async def _known(self, connection: Connection, batch_id: UUID) -> frozenset[UUID] | None:
        batch = await event_batches.find_batch(connection, batch_id)
        return None if batch is None else frozenset(batch.event_ids)

    async def _open(self, timeout_s: float) -> DedicatedConnection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        opened: DedicatedConnection | None = None
        try:
            opened = await asyncpg.connect(
                self._url,
                timeout=min(self._connect_timeout_s, timeout_s),
                server_settings={"application_name": "tracking-gateway-commit", "timezone": "UTC"},
            )
            await postgres.prepare_connection(opened)
        except _CONNECT_ERRORS as error:
            if opened is not None:
                opened.terminate()
            raise ConnectionError(postgres.describe_error(error)) from error  # no row had a part in it
        return opened

    def close(self) -> None:
        """Close the connections without waiting for the server."""
        while self._idle:
            self._idle.pop().terminate()


def _columns(events: Sequence[TrackingEvent]) -> Columns:
    return list(zip(*events, strict=True))


def _batch_columns(batch_id: UUID, created_at: datetime, events: Sequence[TrackingEvent]) -> Columns:
    systems = [event.partner_system_id for event in events]
    return event_batches.to_columns(BatchRow(batch_id, created_at, systems, [event.id for event in events]))


def _require_all(stored: int, events: Sequence[TrackingEvent]) -> None:
    if stored != len(events):
        raise RowSkipped("a trigger of the table skips this event")


def _is_of_batch_row(fault: BaseException) -> bool:
    """Return whether PostgreSQL reported the error for the batch row and not for an event."""
    context = fault.context if isinstance(fault, asyncpg.PostgresError) else None
    return any(line.startswith("COPY event_batches") for line in (context or "").splitlines())


def is_permanent_error(event: TrackingEvent, fault: BaseException) -> bool:
    """Return whether `fault`, raised for this event alone, means that the event can never be stored.

    A missing partition is a temporary error for a month around now, because the system has to create that partition. It
    is a permanent error for a month that only a client's wrong clock names.
    """
    if not isinstance(fault, ROW_ERRORS):
        return False
    # A missing partition is the only check violation without a constraint name; an error raised by a trigger names no
    # table.
    has_no_partition = (
        isinstance(fault, asyncpg.CheckViolationError)
        and fault.table_name is not None
        and fault.constraint_name is None
    )
    at_ms, now_ms = event.id.int >> 80, to_unix_ms(event.received_at)
    return not has_no_partition or abs(at_ms - now_ms) > _MAX_DISTANCE_TO_PARTITIONS / timedelta(milliseconds=1)


def describe_row_error(fault: BaseException) -> str:
    """Return PostgreSQL's message without the row's values, which may be personal data, and without its hints."""
    if isinstance(fault, asyncpg.PostgresError):
        return f"{fault.sqlstate}: {fault.args[0] if fault.args else type(fault).__name__}"
    return str(fault) if isinstance(fault, RowSkipped) else type(fault).__name__
