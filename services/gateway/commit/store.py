"""Writes a micro-batch: its events and its batch row in one transaction, committed with fsync or not at all.

COPY first, because nearly every event is new. If it meets a duplicate, the transaction is rolled back, the events that
are stored already are looked up, and the others are copied. The batch row is also the witness of the commit: if the
connection breaks while committing, the next attempt looks for it and knows.

A COPY waits for a transaction that has inserted the same key and is not decided yet. The role of the gateway has a
`lock_timeout` (tracking/migrations/role_settings.py), after which the wait ends as `KeyHeld`.
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from services.gateway.commit.claims import NO_IDS, CommitOutcome, EarlierPlaces, KeyClaims
from services.gateway.commit.micro_batch import EventKey, get_event_key
from tracking.domain.idempotency_key import IdempotencyKey
from tracking.domain.ids import is_named_id
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import copy_binary, postgres
from tracking.infra.copy_binary import Columns, CopyRows
from tracking.infra.postgres import DedicatedConnection
from tracking.tables import event_batches, idempotency_keys
from tracking.tables.event_batches import BATCH_ENCODERS, BatchRow
from tracking.tables.event_columns import WRITE_ENCODERS
from tracking.tables.idempotency_keys import IDEMPOTENCY_KEY_ENCODERS


class RowSkipped(Exception):
    """A trigger of the table skipped the row without raising an error; the event must not be reported as stored."""


class KeyHeld(Exception):
    """An unfinished transaction of another session has inserted the key of the event in this row; nothing is stored."""

    def __init__(self, event: TrackingEvent) -> None:
        super().__init__("another transaction, not decided yet, has inserted this event")
        self.event = event


# What is wrong with one row, for ever; its neighbours are stored all the same.
ROW_ERRORS: tuple[type[BaseException], ...] = (RowSkipped, *postgres.ROW_ERRORS)

# After these the connection is as good as before, once the transaction is rolled back.
_ANSWERED_ERRORS: tuple[type[BaseException], ...] = (*ROW_ERRORS, asyncpg.LockNotAvailableError)
APPLICATION_NAME = "tracking-gateway-commit"
_CONNECT_ERRORS: tuple[type[BaseException], ...] = (*postgres.POSTGRES_ERRORS, ValueError)
# A client's time further off than this may lie where no partition is meant to be.
_MAX_DISTANCE_TO_PARTITIONS = timedelta(days=28)

# The second is for attempts after a row was found to be held: a row that is free needs no wait.
_BEGIN = "begin"
_BEGIN_BRIEF = "begin; set local lock_timeout = '5ms'"
# For a key, PostgreSQL says the place in the index first: `while inserting index tuple (0,5) in relation "…"`, then
# `COPY tracking_events, line 4`. A lock on the table or a partition has at most the second line.
_HELD_ROW = re.compile(r"\(\d+,\d+\).*^COPY (tracking_events|idempotency_keys)\D+(\d+)", re.DOTALL | re.MULTILINE)

# `limit 1` keeps the planner from joining in another way than by the primary key, row by row.
_SELECT_STORED = """
select given.partner_system_id, given.id
  from unnest($1::uuid[], $2::uuid[]) as given (partner_system_id, id)
 cross join lateral (
           select
             from write.tracking_events as stored
            where stored.partner_system_id = given.partner_system_id
              and stored.id = given.id
            limit 1
       ) as found
"""


class _Batch(NamedTuple):
    """The id and time of the batch row, what may be stored with it, and the statements that begin its transaction."""

    id: UUID
    created_at: datetime
    events: Sequence[TrackingEvent]
    claims: KeyClaims | None
    begin: str


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
        is_brief: bool,
        timeout_s: float,
        claims: KeyClaims | None = None,
    ) -> CommitOutcome:
        """Store the events that are new, with their batch row and the keys of their requests.

        The keys of `events` are unique and in order. After a failure whose outcome is unknown, call it again with the
        same batch id and `is_retry`. With `is_brief` it waits for no lock. Past `timeout_s` the connection is cut.
        Raises KeyHeld (nothing is stored), postgres.TRANSIENT_ERRORS (nothing is known to be stored), ROW_ERRORS
        (nothing is stored, at least one row can never be) or another PostgresError (nothing is stored; whether that is
        due to a row shows when the rows are tried apart).
        """
        connection = await self._open(timeout_s)
        begin = _BEGIN_BRIEF if is_brief else _BEGIN
        # cutting the connection rather than cancelling: a cancelled transaction would wait for its own rollback
        watchdog = asyncio.get_running_loop().call_later(timeout_s, connection.terminate)
        try:
            places = self._earlier_places
            earlier = await places.find(connection, events) if places.may_exist else NO_IDS
            outcome = await self._find_outcome(connection, batch_id, earlier, claims) if is_retry else None
            if outcome is None:
                outcome = await self._commit(connection, _Batch(batch_id, created_at, events, claims, begin), earlier)
        except AttributeError as error:
            # asyncpg, between two questions of a statement, of the protocol that a cut connection no longer has
            was_cut = connection.is_closed()
            connection.terminate()
            if was_cut:
                raise ConnectionError("the connection was cut at the deadline") from error
            raise
        except BaseException as error:
            # a search for a row goes on here; after any other failure the protocol's state may be unknown
            is_answered = isinstance(error, (*_ANSWERED_ERRORS, KeyHeld))
            if is_answered and not connection.is_closed() and not connection.is_in_transaction():
                self._idle.append(connection)
            else:
                connection.terminate()
            raise
        finally:
            watchdog.cancel()
        self._idle.append(connection)
        return outcome

    async def _find_outcome(
        self,
        connection: DedicatedConnection,
        batch_id: UUID,
        earlier: Mapping[UUID, UUID],
        claims: KeyClaims | None,
    ) -> CommitOutcome | None:
        """Return the outcome of an attempt that was committed, or None if there was none."""
        known = await event_batches.find_batch(connection, batch_id)
        if known is None:
            return None
        conflicting: Set[IdempotencyKey] = frozenset()
        if claims is not None:
            conflicting = await idempotency_keys.list_keys_of_other_bodies(connection, claims.keys)
        return CommitOutcome(frozenset(known.event_ids), earlier, conflicting)

    async def _commit(
        self, connection: DedicatedConnection, batch: _Batch, earlier: Mapping[UUID, UUID]
    ) -> CommitOutcome:
        claims = batch.claims
        keys: Sequence[IdempotencyKey] = sorted(claims.keys) if claims is not None else ()
        if not earlier:
            with contextlib.suppress(asyncpg.UniqueViolationError):
                await self._copy(connection, batch, batch.events, keys)
                return CommitOutcome(None)
        conflicting: Set[IdempotencyKey] = frozenset()
        left: Sequence[TrackingEvent] = [event for event in batch.events if event.id not in earlier]
        last = (-1, -1)
        while True:
            if claims is not None:
                keys, conflicting = await self._find_new_keys(connection, claims)
                left = claims.drop_conflicting(left, conflicting)
            stored = await self._find_stored(connection, left)
            left = [event for event in left if get_event_key(event) not in stored]
            if not left and not keys:
                # an earlier attempt of this gateway may have been committing all the while
                outcome = await self._find_outcome(connection, batch.id, earlier, claims)
                return outcome or CommitOutcome(frozenset(), earlier, conflicting)
            try:
                await self._copy(connection, batch, left, keys)
                return CommitOutcome(frozenset(event.id for event in left), earlier, conflicting)
            except asyncpg.UniqueViolationError:
                # what violates an index though it is stored nowhere violates another index than that of the keys
                if (len(left), len(keys)) == last:
                    raise
                last = len(left), len(keys)

    async def _copy(
        self,
        connection: DedicatedConnection,
        batch: _Batch,
        events: Sequence[TrackingEvent],
        keys: Sequence[IdempotencyKey],
    ) -> None:
        """Store the keys, the batch row and the events. Raises as `commit`, the transaction is rolled back then."""
        rows = [CopyRows("write.tracking_events", WRITE_ENCODERS, _columns(events))] if events else []
        if events:
            rows.insert(0, CopyRows("write.event_batches", BATCH_ENCODERS, _batch_columns(batch, events)))
        if keys:
            columns = idempotency_keys.to_columns(keys, batch.created_at)
            rows.insert(0, CopyRows("write.idempotency_keys", IDEMPOTENCY_KEY_ENCODERS, columns))
        try:
            # not committed in the same breath: if a trigger left out a row, all of it must be undone
            stored = await copy_binary.begin_and_copy(connection, *rows, begin=batch.begin)
            if events and stored != len(events):
                raise RowSkipped("a trigger of the table skips this event")
            await connection.execute("commit")
        except _ANSWERED_ERRORS as error:
            if connection.is_in_transaction():
                await connection.execute("rollback")
            if _is_of_batch_row(error):
                raise OSError(f"no batch row: {describe_row_error(error)}") from error  # no event had a part in it
            held = _HELD_ROW.search(error.context or "") if isinstance(error, asyncpg.LockNotAvailableError) else None
            if held is None:
                raise
            table, row = held[1], int(held[2]) - 1
            if table == "tracking_events":
                raise KeyHeld(events[row]) from error
            raise KeyHeld(_find_claimed(batch, keys[row])) from error

    async def _find_new_keys(
        self, connection: DedicatedConnection, claims: KeyClaims
    ) -> tuple[Sequence[IdempotencyKey], Set[IdempotencyKey]]:
        """Return the keys that were never used, and those that were used for another body."""
        keys = sorted(claims.keys)
        used = await idempotency_keys.list_used_keys(connection, keys)
        bodies = {(key.partner_system_id, key.id): key.fingerprint for key in used}
        new = {(key.partner_system_id, key.id): key for key in reversed(keys)}
        conflicting = frozenset(
            key for key in keys if (bodies.get(key[:2]) or new[key[:2]].fingerprint) != key.fingerprint
        )
        return sorted(key for place, key in new.items() if place not in bodies), conflicting

    async def _find_stored(
        self, connection: DedicatedConnection, events: Sequence[TrackingEvent]
    ) -> frozenset[EventKey]:
        if not events:
            return frozenset()
        systems = [event.partner_system_id for event in events]
        rows = await connection.fetch(_SELECT_STORED, systems, [event.id for event in events])
        return frozenset((row["id"].int, row["partner_system_id"].int) for row in rows)

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
                server_settings={"application_name": APPLICATION_NAME, "timezone": "UTC"},
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


def _batch_columns(batch: _Batch, events: Sequence[TrackingEvent]) -> Columns:
    systems = [event.partner_system_id for event in events]
    return event_batches.to_columns(BatchRow(batch.id, batch.created_at, systems, [event.id for event in events]))


def _find_claimed(batch: _Batch, key: IdempotencyKey) -> TrackingEvent:
    """Return an event of the request that has this key."""
    claims = batch.claims
    return next(event for event in batch.events if claims is not None and key in claims.claimants[event.id])


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
