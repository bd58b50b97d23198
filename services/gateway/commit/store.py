"""Writes a micro-batch: its events and its batch row in one transaction, committed with fsync or not at all.

COPY first, because nearly every event is new; on a duplicate the transaction is rolled back and the rows go through a
temporary table with ON CONFLICT DO NOTHING. The batch row is also the witness of the commit: if the connection breaks
while committing, the next attempt looks for it and knows.
"""

import asyncio
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from services.gateway.commit.claims import CommitOutcome, EarlierPlaces, KeyClaims
from tracking.domain.idempotency_key import IdempotencyKey
from tracking.domain.ids import is_named_id
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import copy_binary, postgres
from tracking.infra.copy_binary import Columns, CopyRows
from tracking.infra.postgres import Connection, DedicatedConnection
from tracking.tables import event_batches, idempotency_keys
from tracking.tables.event_batches import BATCH_ENCODERS, BatchRow
from tracking.tables.event_columns import WRITE_ENCODERS
from tracking.tables.idempotency_keys import IDEMPOTENCY_KEY_ENCODERS


class RowSkipped(Exception):
    """A trigger of the table skipped the row without raising an error; the event must not be reported as stored."""


# What is wrong with one row, for ever; its neighbours are stored all the same.
ROW_ERRORS: tuple[type[BaseException], ...] = (RowSkipped, *postgres.ROW_ERRORS)

_CONNECT_ERRORS: tuple[type[BaseException], ...] = (*postgres.POSTGRES_ERRORS, ValueError)
# A client's time further off than this may lie where no partition is meant to be.
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
    """Connections of its own for commits, as many as commits are under way at once; opened again when they break."""

    def __init__(self, url: str, *, connect_timeout_s: float) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s
        self._idle: list[DedicatedConnection] = []
        self._earlier_places = EarlierPlaces()

    async def commit(
        self,
        batch_id: UUID,
        created_at: datetime,
        events: Sequence[TrackingEvent],
        *,
        is_retry: bool,
        timeout_s: float,
        claims: KeyClaims | None = None,
    ) -> CommitOutcome:
        """Store the events that are new, with their batch row and the keys of their requests.

        The ids within `events` are unique for each system. After a failure whose outcome is unknown, call it again with
        the same batch id and `is_retry`. Past `timeout_s` the connection is cut. Raises postgres.TRANSIENT (nothing is
        known to be stored), ROW_FAULTS (nothing is stored, at least one row can never be) or another PostgresError
        (nothing is stored; whether that is due to a row shows when the rows are tried apart).
        """
        connection = await self._open(timeout_s)
        # cutting the connection rather than cancelling: a cancelled transaction would wait for its own rollback
        watchdog = asyncio.get_running_loop().call_later(timeout_s, connection.terminate)
        try:
            outcome = await self._commit(connection, batch_id, created_at, events, claims, is_retry=is_retry)
        except AttributeError as error:
            # asyncpg, between two questions of a statement, of the protocol that a cut connection no longer has
            was_cut = connection.is_closed()
            connection.terminate()
            if was_cut:
                raise ConnectionError("the connection was cut at the deadline") from error
            raise
        except BaseException as error:
            # a search for a bad row goes on here; after any other failure the protocol's state may be unknown
            if not isinstance(error, ROW_ERRORS) or connection.is_closed() or connection.is_in_transaction():
                connection.terminate()
            else:
                self._idle.append(connection)
            raise
        finally:
            watchdog.cancel()
        self._idle.append(connection)
        return outcome

    async def _commit(
        self,
        connection: DedicatedConnection,
        batch_id: UUID,
        created_at: datetime,
        events: Sequence[TrackingEvent],
        claims: KeyClaims | None,
        *,
        is_retry: bool,
    ) -> CommitOutcome:
        earlier = await self._earlier_places.find(connection, events)
        if is_retry and (known := await self._known(connection, batch_id)) is not None:
            if claims is None:
                return CommitOutcome(known, earlier)
            conflicting = await idempotency_keys.list_keys_of_other_bodies(connection, claims.keys)
            return CommitOutcome(known, earlier, conflicting)
        try:
            if not earlier and await self._commit_all(connection, batch_id, created_at, events, claims):
                return CommitOutcome(None)
            events = [event for event in events if event.id not in earlier]
            stored, refused = await self._commit_new(connection, batch_id, created_at, events, claims)
            return CommitOutcome(stored, earlier, refused)
        except ROW_ERRORS as fault:
            if _is_of_batch_row(fault):
                raise OSError(f"no batch row: {describe_row_error(fault)}") from fault  # no event had a part in it
            raise

    async def _commit_all(
        self,
        connection: DedicatedConnection,
        batch_id: UUID,
        created_at: datetime,
        events: Sequence[TrackingEvent],
        claims: KeyClaims | None,
    ) -> bool:
        """False if at least one event or key is stored already, and nothing was stored now."""
        before = [CopyRows("write.event_batches", BATCH_ENCODERS, _batch_columns(batch_id, created_at, events))]
        if claims is not None:
            columns = idempotency_keys.to_columns(claims.keys, created_at)
            before.insert(0, CopyRows("write.idempotency_keys", IDEMPOTENCY_KEY_ENCODERS, columns))
        try:
            # not committed in the same breath: if a trigger left out a row, all of it must be undone
            stored = await copy_binary.begin_and_copy(
                connection, *before, CopyRows("write.tracking_events", WRITE_ENCODERS, _columns(events))
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
        self,
        connection: Connection,
        batch_id: UUID,
        created_at: datetime,
        events: Sequence[TrackingEvent],
        claims: KeyClaims | None,
    ) -> tuple[frozenset[UUID], Set[IdempotencyKey]]:
        """Return the ids of the events that were new, and the keys that were used before with another body."""
        await connection.execute(_CREATE_STAGING)
        conflicting: Set[IdempotencyKey] = frozenset()
        async with connection.transaction():
            if claims is not None:
                await idempotency_keys.insert_new_keys(connection, claims.keys, created_at)
                conflicting = await idempotency_keys.list_keys_of_other_bodies(connection, claims.keys)
                events = claims.drop_conflicting(events, conflicting)
            stored = await self._insert_new(connection, batch_id, created_at, events) if events else frozenset()
        # an earlier attempt of this gateway may have been committing all the while
        known = None if stored else await self._known(connection, batch_id)
        return stored if known is None else known, conflicting

    async def _insert_new(
        self, connection: Connection, batch_id: UUID, created_at: datetime, events: Sequence[TrackingEvent]
    ) -> frozenset[UUID]:
        staged = await copy_binary.copy(
            connection, "staged_events", schema="pg_temp", encoders=WRITE_ENCODERS, groups=[_columns(events)]
        )
        _require_all(staged, events)
        stored = frozenset(row["id"] for row in await connection.fetch(_INSERT_NEW))
        _require_all(await connection.fetchval(_COUNT_STORED), events)
        if stored:
            batch = _batch_columns(batch_id, created_at, [event for event in events if event.id in stored])
            await copy_binary.copy(connection, "event_batches", schema="write", encoders=BATCH_ENCODERS, groups=[batch])
        return stored

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
            await self._earlier_places.prepare(opened)
        except _CONNECT_ERRORS as error:
            if opened is not None:
                opened.terminate()
            raise ConnectionError(postgres.describe_error(error)) from error  # no row had a part in it
        return opened

    def close(self) -> None:
        """End the connections without waiting for the server."""
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
    """Whether PostgreSQL says that it was at the batch row, not at an event."""
    context = fault.context if isinstance(fault, asyncpg.PostgresError) else None
    return any(line.startswith("COPY event_batches") for line in (context or "").splitlines())


def is_permanent_error(event: TrackingEvent, fault: BaseException) -> bool:
    """Whether `fault`, raised for this event alone, is the event's own: it can never be stored.

    A missing partition for a month around now is an error of operation, which can be repaired. A month that only the
    clock of a client names will never have one.
    """
    if not isinstance(fault, ROW_ERRORS):
        return False
    # the one check of PostgreSQL's own, so it has no name; what a trigger raises names no table
    has_no_partition = (
        isinstance(fault, asyncpg.CheckViolationError)
        and fault.table_name is not None
        and fault.constraint_name is None
    )
    if not has_no_partition:
        return True
    at_ms, now_ms = event.id.int >> 80, to_unix_ms(event.received_at)
    is_far_away = abs(at_ms - now_ms) > _MAX_DISTANCE_TO_PARTITIONS / timedelta(milliseconds=1)
    return is_far_away and not is_named_id(event.id)


def describe_row_error(fault: BaseException) -> str:
    """Return PostgreSQL's message without its hints and without the row's values, which may be personal data."""
    if isinstance(fault, asyncpg.PostgresError):
        return f"{fault.sqlstate}: {fault.args[0] if fault.args else type(fault).__name__}"
    return str(fault) if isinstance(fault, RowSkipped) else type(fault).__name__
