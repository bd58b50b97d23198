"""First half of a rebuild: the events of each batch stand in the read model as committed, once, and so do their links.

A batch enters the inbox of both consumers in the transaction that repairs its rows. A worker that has it in hand was
there before, and then its rows are seen here; or it comes after, and then its inbox knows the batch. Events that are
right already are left alone, so a rebuild of a sound read model writes next to nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.cli.rebuild import batches
from services.cli.rebuild.links import LinkingEvent
from tracking.contracts import topology
from tracking.domain.identity_link import LINKING_EVENT_TYPES, select_earliest
from tracking.infra.postgres import Connection
from tracking.tables import identities, range_versions, rollups
from tracking.tables.event_columns import READ_ENCODERS, compose_select
from tracking.tables.rollups import COUNT_KINDS, HourKey, HourlyCountKey, HourlyCounts, get_count_kind_index

# (system, event_timestamp, id), the primary key of the read model
EventKey = tuple[UUID, datetime, UUID]

_DELETE_EVENTS = """
delete from read.tracking_events_read_model as r
 using unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) as given (partner_system_id, event_timestamp, id)
 where r.partner_system_id = given.partner_system_id
   and r.event_timestamp = given.event_timestamp
   and r.id = given.id
"""

# as many as a worker takes at once
MAX_GROUP_EVENTS = 4_000
_PAGE_BATCHES = 200

# without processed_at, which says when a row was written
COLUMNS = tuple(name for name in READ_ENCODERS if name != "processed_at")
Row = tuple[Any, ...]
_PARTNER_ID = COLUMNS.index("partner_id")
_NAMES = slice(COLUMNS.index("partner_name"), COLUMNS.index("system_name") + 1)
_EVENT_NAME, _EVENT_TIMESTAMP, _IS_VALID, _IS_BOT, _EVENT_TYPE = (
    COLUMNS.index(name) for name in ("event_name", "event_timestamp", "is_valid", "is_bot", "event_type")
)
_NAMING = [COLUMNS.index(name) for name in LinkingEvent._fields]


class UnknownSystem(Exception):
    """The registry of the write database lacks a system that has events; nobody can tell whose they are."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A batch: the n-th event is (partner_system_ids[n], event_ids[n])."""

    id: UUID
    partner_system_ids: Sequence[UUID]
    event_ids: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class BatchGroup:
    """Batches in the order of their ids, and the rows of each as the read model should have them."""

    rows: dict[UUID, list[Row]]
    missing_events: int

    def single(self) -> list["BatchGroup"]:
        """The same batches one by one."""
        return [BatchGroup({batch_id: rows}, 0) for batch_id, rows in self.rows.items()]


@dataclass(frozen=True, slots=True)
class GroupResult:
    """What became of a chunk."""

    events: int
    repaired: int
    links: int
    hours: set[HourKey]
    # by consumer, the first batch that was not in its inbox
    entered: dict[str, UUID]


_SELECT_BATCHES = """
select id, partner_system_ids, event_ids
  from write.event_batches
 where id > $1
   and id <= $2
 order by id
 limit $3
"""


async def read_groups(write: Connection, position: UUID, through: UUID) -> AsyncGenerator[BatchGroup, None]:
    """The batches after `position` up to `through`, some 4 000 events at a time. Raises UnknownSystem."""
    while rows := await write.fetch(_SELECT_BATCHES, position, through, _PAGE_BATCHES):
        position = rows[-1]["id"]
        claims: list[BatchRow] = []
        events = 0
        for row in rows:
            claim = BatchRow(*row.values())
            if claims and events + len(claim.event_ids) > MAX_GROUP_EVENTS:
                yield await _read(write, claims)
                claims, events = [], 0
            claims.append(claim)
            events += len(claim.event_ids)
        yield await _read(write, claims)


async def prefetch(source: AsyncGenerator[BatchGroup, None]) -> AsyncGenerator[BatchGroup, None]:
    """The same, reading the next while the caller works on one."""
    upcoming = asyncio.ensure_future(anext(source, None))
    try:
        while (chunk := await upcoming) is not None:
            upcoming = asyncio.ensure_future(anext(source, None))
            yield chunk
    finally:
        upcoming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upcoming


_KEEP_TO_KEYS = """
set local enable_hashjoin = off;
set local enable_mergejoin = off;
set local enable_seqscan = off;
set local plan_cache_mode = force_custom_plan
"""

_REGISTRY_COLUMNS = {"partner_id": "s.partner_id", "partner_name": "p.name", "system_name": "s.name"}
_SELECT_EVENTS = compose_select(
    ["claimed.batch_id", *(_REGISTRY_COLUMNS.get(name, f"e.{name}") for name in COLUMNS)],
    """
  from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as claimed (batch_id, partner_system_id, id)
  join write.tracking_events e
    on e.partner_system_id = claimed.partner_system_id
   and e.id = claimed.id
  left join write.partner_systems s on s.id = e.partner_system_id
  left join write.partners p on p.id = s.partner_id
""",
)


async def _read(write: Connection, claims: Sequence[BatchRow]) -> BatchGroup:
    rows: dict[UUID, list[Row]] = {claim.id: [] for claim in claims}
    async with write.transaction(readonly=True):
        await write.execute(_KEEP_TO_KEYS)
        found = await write.fetch(
            _SELECT_EVENTS,
            [claim.id for claim in claims for _ in claim.event_ids],
            [system for claim in claims for system in claim.partner_system_ids],
            [event for claim in claims for event in claim.event_ids],
        )
    for batch_id, *row in found:
        if row[_PARTNER_ID] is None:
            raise UnknownSystem(f"the write database has events of system {row[0]}, but no such system")
        rows[batch_id].append(tuple(row))
    return BatchGroup(rows, sum(len(claim.event_ids) for claim in claims) - len(found))


_INSERT_INBOXES = """
insert into read.applied_batches (batch_id, consumer)
select batch_id, consumer
  from unnest($1::uuid[]) as given (batch_id)
 cross join unnest($2::text[]) as named (consumer)
 order by batch_id, consumer
    on conflict do nothing
returning batch_id, consumer
"""


async def apply_group(read: Connection, chunk: BatchGroup) -> GroupResult:
    """Make the read model agree with the chunk; inside a transaction. Raises what PostgreSQL raises."""
    entered = await read.fetch(_INSERT_INBOXES, list(chunk.rows), list(topology.CONSUMERS))
    rows = [row for batch in chunk.rows.values() for row in batch]
    changed = await _repair(read, rows)
    # a batch that was in no inbox of statistics is in no count either
    counted = [row for batch_id, consumer in entered if consumer == "statistics" for row in chunk.rows[batch_id]]
    counts = count_rows(counted)
    if counts:
        await rollups.add_counts(read, counts)
    namings = (
        LinkingEvent(*(row[column] for column in _NAMING)) for row in rows if row[_EVENT_TYPE] in LINKING_EVENT_TYPES
    )
    linked = await identities.insert_earlier_links(
        read, select_earliest(link for naming in namings for link in naming.links())
    )
    touched = {(row[0], row[_EVENT_TIMESTAMP]) for row in changed} | {(system, hour) for system, hour, _ in counts}
    await range_versions.raise_versions(read, touched)
    first: dict[str, UUID] = {}
    for batch_id, consumer in entered:
        first[consumer] = min(batch_id, first.get(consumer, batch_id))
    hours = {(row[0], truncate_to_hour(row[_EVENT_TIMESTAMP])) for row in rows}
    return GroupResult(len(rows), len(changed), linked, hours, first)


def count_rows(rows: Sequence[Row]) -> HourlyCounts:
    """Rows of the read model by system, hour and name."""
    counts: dict[HourlyCountKey, list[int]] = {}
    for row in rows:
        numbers = counts.setdefault(
            (row[0], truncate_to_hour(row[_EVENT_TIMESTAMP]), row[_EVENT_NAME]), [0] * len(COUNT_KINDS)
        )
        numbers[get_count_kind_index(row[_IS_VALID], row[_IS_BOT])] += 1
    return counts


def truncate_to_hour(at: datetime) -> datetime:
    """The hour (UTC) in which it is counted."""
    return at.replace(minute=0, second=0, microsecond=0)


_SELECT_STORED = compose_select(
    [f"r.{name}" for name in COLUMNS],
    """
  from unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) as given (partner_system_id, event_timestamp, id)
  join read.tracking_events_read_model r
    on r.partner_system_id = given.partner_system_id
   and r.event_timestamp = given.event_timestamp
   and r.id = given.id
""",
)


async def _repair(read: Connection, rows: Sequence[Row]) -> list[Row]:
    """Write the rows that are not there as they should be, and return them."""
    await read.execute(_KEEP_TO_KEYS)
    keys = [(row[0], row[_EVENT_TIMESTAMP], row[1]) for row in rows]
    found = await read.fetch(
        _SELECT_STORED, [system for system, _, _ in keys], [at for _, at, _ in keys], [event for _, _, event in keys]
    )
    stored = {(row[0], row[1]): tuple(row) for row in found}
    wrong: list[EventKey] = []
    fresh: list[Row] = []
    for key, row in zip(keys, rows, strict=True):
        known = stored.get((row[0], row[1]))
        if known is None:
            fresh.append(row)
            continue
        # the names as they were when the event came; nothing else remembers them
        row = (*row[: _NAMES.start], *known[_NAMES], *row[_NAMES.stop :])
        if row != known:
            wrong.append(key)
            fresh.append(row)
    if wrong:
        await batches.delete_events(read, wrong)
    if fresh:
        processed_at = datetime.now(UTC)
        await read.copy_records_to_table(
            "tracking_events_read_model",
            schema_name="read",
            columns=(*COLUMNS, "processed_at"),
            records=[(*row, processed_at) for row in fresh],
        )
    return fresh


async def delete_events(read: Connection, keys: Sequence[EventKey]) -> None:
    """Delete rows of the read model."""
    await read.execute(
        _DELETE_EVENTS, [system for system, _, _ in keys], [at for _, at, _ in keys], [event for _, _, event in keys]
    )
