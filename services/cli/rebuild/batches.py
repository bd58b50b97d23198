"""First half of a rebuild: makes the rows and links of each batch in the read model equal to the committed ones.

A batch is inserted into the inbox of both consumers in the transaction that repairs its rows. A worker that is applying
the same batch either committed before, and then its rows are seen here, or it comes later, and then finds the batch in
its inbox. Rows that are right already are left alone, so a rebuild of a correct read model writes next to nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from services.cli.rebuild.links import LinkingEvent
from tracking.contracts import topology
from tracking.domain.identity_link import LINKING_EVENT_TYPES, select_earliest
from tracking.infra.postgres import USE_INDEX_LOOKUPS_CUSTOM_PLANS, Connection, parse_row_count
from tracking.tables import applied_batches, event_batches, identities, range_versions, rollups
from tracking.tables.event_batches import BatchRow
from tracking.tables.event_columns import READ_ENCODERS, compose_select
from tracking.tables.rollups import COUNT_KIND_INDEXES, COUNT_KINDS, HourKey, HourlyCountKey, HourlyCounts

# (system, event_timestamp, id), the primary key of the read model
EventKey = tuple[UUID, datetime, UUID]

_DELETE_EVENTS = """
delete from read.tracking_events_read_model as r
 using unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) as given (partner_system_id, event_timestamp, id)
 where r.partner_system_id = given.partner_system_id
   and r.event_timestamp = given.event_timestamp
   and r.id = given.id
"""

# The largest number of events that a worker applies in one transaction.
MAX_GROUP_EVENTS = 4_000
_PAGE_BATCHES = 200

# All columns except processed_at, which says when a row was written.
COLUMNS = tuple(name for name in READ_ENCODERS if name != "processed_at")
Row = tuple[Any, ...]
_PARTNER_ID = COLUMNS.index("partner_id")
_NAMES = slice(COLUMNS.index("partner_name"), COLUMNS.index("system_name") + 1)
_EVENT_NAME, _EVENT_TIMESTAMP, _IS_VALID, _IS_BOT, _EVENT_TYPE = (
    COLUMNS.index(name) for name in ("event_name", "event_timestamp", "is_valid", "is_bot", "event_type")
)
_LINKING = [COLUMNS.index(name) for name in LinkingEvent._fields]


class UnknownSystem(Exception):
    """The registry of the write database lacks a system that has events, so their partner is unknown."""


class RebuildStuck(Exception):
    """A statement did not change the rows that it was given, so going on would never end or would double rows."""


@dataclass(frozen=True, slots=True)
class BatchGroup:
    """Batches in the order of their ids, with the rows of each as the read model should have them."""

    rows: dict[UUID, list[Row]]
    missing_events: int

    def single(self) -> list["BatchGroup"]:
        """Return a group for each of the batches."""
        return [BatchGroup({batch_id: rows}, 0) for batch_id, rows in self.rows.items()]


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The counters of a group that was applied."""

    events: int
    repaired: int
    links: int
    hours: set[HourKey]
    # For each consumer, the first batch that was not in its inbox.
    entered: dict[str, UUID]


async def read_groups(
    write: Connection, position: UUID, through: UUID, kept_since: datetime | None
) -> AsyncGenerator[BatchGroup, None]:
    """Yield the batches after `position` up to `through`, in groups of some 4 000 events. Raises UnknownSystem.

    Events from before `kept_since` are left out, because the read model does not keep them.
    """
    while page := await event_batches.list_between(write, position, through, _PAGE_BATCHES):
        position = page[-1].id
        group: list[BatchRow] = []
        events = 0
        for batch in page:
            if group and events + len(batch.event_ids) > MAX_GROUP_EVENTS:
                yield await _read(write, group, kept_since)
                group, events = [], 0
            group.append(batch)
            events += len(batch.event_ids)
        yield await _read(write, group, kept_since)


async def prefetch(source: AsyncGenerator[BatchGroup, None]) -> AsyncGenerator[BatchGroup, None]:
    """Yield the same groups, reading the next one while the caller works on one."""
    upcoming = asyncio.ensure_future(anext(source, None))
    try:
        while (group := await upcoming) is not None:
            upcoming = asyncio.ensure_future(anext(source, None))
            yield group
    finally:
        upcoming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upcoming


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


async def _read(write: Connection, group: Sequence[BatchRow], kept_since: datetime | None) -> BatchGroup:
    rows: dict[UUID, list[Row]] = {batch.id: [] for batch in group}
    async with write.transaction(readonly=True):
        await write.execute(USE_INDEX_LOOKUPS_CUSTOM_PLANS)
        found = await write.fetch(
            _SELECT_EVENTS,
            [batch.id for batch in group for _ in batch.event_ids],
            [system for batch in group for system in batch.partner_system_ids],
            [event for batch in group for event in batch.event_ids],
        )
    for batch_id, *row in found:
        if row[_PARTNER_ID] is None:
            raise UnknownSystem(f"the write database has events of system {row[0]}, but no such system")
        if kept_since is None or row[_EVENT_TIMESTAMP] >= kept_since:
            rows[batch_id].append(tuple(row))
    return BatchGroup(rows, sum(len(batch.event_ids) for batch in group) - len(found))


async def apply_group(read: Connection, group: BatchGroup) -> GroupResult:
    """Make the read model agree with the group, inside a transaction. Raises what PostgreSQL raises."""
    entered = await applied_batches.insert_batches_of_consumers(read, topology.CONSUMERS, list(group.rows))
    rows = [row for batch in group.rows.values() for row in batch]
    changed = await _repair(read, rows)
    # A batch that was not in the inbox of statistics has not been counted either.
    counted = [row for batch_id, consumer in entered if consumer == "statistics" for row in group.rows[batch_id]]
    counts = count_rows(counted)
    if counts:
        await rollups.add_counts(read, counts)
    linking = (
        LinkingEvent(*(row[column] for column in _LINKING)) for row in rows if row[_EVENT_TYPE] in LINKING_EVENT_TYPES
    )
    linked = await identities.insert_earlier_links(
        read, select_earliest(link for event in linking for link in event.links())
    )
    days = {(row[0], row[_EVENT_TIMESTAMP].date()) for row in changed} | {(key[0], key[1].date()) for key in counts}
    await range_versions.raise_versions(read, days, range_versions.REBUILD)
    first: dict[str, UUID] = {}
    for batch_id, consumer in entered:
        first[consumer] = min(batch_id, first.get(consumer, batch_id))
    hours = {(row[0], truncate_to_hour(row[_EVENT_TIMESTAMP])) for row in rows}
    return GroupResult(len(rows), len(changed), linked, hours, first)


def count_rows(rows: Sequence[Row]) -> HourlyCounts:
    """Count rows of the read model by system, hour and event name."""
    counts: dict[HourlyCountKey, list[int]] = {}
    for row in rows:
        numbers = counts.setdefault(
            (row[0], truncate_to_hour(row[_EVENT_TIMESTAMP]), row[_EVENT_NAME]), [0] * len(COUNT_KINDS)
        )
        numbers[COUNT_KIND_INDEXES[row[_IS_BOT]][row[_IS_VALID]]] += 1
    return counts


def truncate_to_hour(at: datetime) -> datetime:
    """Return the hour (UTC) in which an event is counted."""
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
    """Write the rows that are missing or different in the read model, and return them."""
    await read.execute(USE_INDEX_LOOKUPS_CUSTOM_PLANS)
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
        # The names that held when the event was received are kept nowhere but in its row.
        row = (*row[: _NAMES.start], *known[_NAMES], *row[_NAMES.stop :])
        if row != known:
            wrong.append(key)
            fresh.append(row)
    if wrong and await delete_events(read, wrong) < len(wrong):
        raise RebuildStuck("rows of the read model that are wrong cannot be deleted, and were not replaced")
    if fresh:
        processed_at = datetime.now(UTC)
        await read.copy_records_to_table(
            "tracking_events_read_model",
            schema_name="read",
            columns=(*COLUMNS, "processed_at"),
            records=[(*row, processed_at) for row in fresh],
        )
    return fresh


async def delete_events(read: Connection, keys: Sequence[EventKey]) -> int:
    """Delete rows of the read model. Return how many there were."""
    status = await read.execute(
        _DELETE_EVENTS, [system for system, _, _ in keys], [at for _, at, _ in keys], [event for _, _, event in keys]
    )
    return parse_row_count(status)
