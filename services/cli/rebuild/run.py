"""Makes the read model and its counts equal to the write database again, while events keep coming in.

A rebuild of everything first deletes wrong links between ids (`links`). Two halves follow, `batches` and `hours`, in
many short transactions. Each transaction moves the rebuild's position together with its work, so a rebuild that was
killed continues where it stopped, and one that is never continued leaves no batch half applied. Why a rebuild goes by
batch: docs/decisions/0007.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

import asyncpg

from services.cli.rebuild import batches, state
from services.cli.rebuild.batches import BatchGroup, EventKey, GroupResult
from services.cli.rebuild.hours import (
    PartiallyAppliedCounts,
    count_waiting_hours,
    drop_expired_hours,
    find_count_differences,
    find_strays,
    list_waiting_hours,
    queue_all_hours,
    queue_hours,
    write_count_differences,
)
from services.cli.rebuild.links import FIRST_POSITION, find_unjustified_links, list_links
from services.cli.rebuild.state import RebuildState, ReceivedRange
from tracking.domain.identity_link import IdentityLink
from tracking.infra.postgres import REBUILD_LOCK, Connection, Pool
from tracking.tables import consumer_progress, identities, range_versions
from tracking.tables.retention import read_kept_since
from tracking.tables.rollups import HourKey

T = TypeVar("T")
Report = Callable[[RebuildState], None]

# The server may need a moment to notice that the previous process was killed, and to release its lock.
_LOCK_WAIT_S = 10.0
_ATTEMPTS = 10
_MAX_DELETED_PER_RUN = 5_000
# Errors of a single batch rather than of the database. As in the workers, the other batches are applied.
_BATCH_ERRORS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)

_TRY_LOCK = "select pg_try_advisory_lock($1)"


@dataclass(frozen=True, slots=True)
class RebuildConnections:
    """The connections that a rebuild keeps open to its end."""

    write: Connection
    ahead: Connection
    """To the write database, for the group after the one that is applied."""
    read: Connection
    """Holds the lock and makes every change to the read database."""
    snapshot: Connection
    """Reads the read database as it is at one moment."""


class RebuildNotStarted(Exception):
    """The rebuild did not start and changed nothing; the message says why."""


async def rebuild(
    write_pool: Pool,
    read_pool: Pool,
    within: ReceivedRange | None,
    *,
    deletes_strays: bool,
    starts_over: bool,
    report: Report,
) -> RebuildState:
    """Rebuild the batches received `within`; None continues the unfinished rebuild, whatever its range.

    An unfinished rebuild of the same range is continued unless `starts_over`; one of another range is given up.
    `report` is called after each step. Raises RebuildNotStarted, UnknownSystem, RebuildStuck and
    postgres.TRANSIENT_ERRORS; after the latter the same call continues where it stopped.
    """
    async with AsyncExitStack() as resources:
        opened = [
            await resources.enter_async_context(pool.acquire())
            for pool in (write_pool, write_pool, read_pool, read_pool)
        ]
        connections = RebuildConnections(*opened)
        await _lock(connections.read)
        kept_since = await read_kept_since(connections.write, connections.read)
        work = await _resume_or_start(connections, within, deletes_strays, starts_over)
        report(work)
        if work.phase == "links":
            work = await _check_links(connections, work, kept_since, report)
        if work.phase == "batches":
            await state.create_partitions(connections.read, connections.write, work)
            work = await _rebuild_batches(connections, work, kept_since, report)
        work = await _rebuild_hours(connections, work, kept_since, report)
        async with connections.read.transaction():
            work = replace(work, phase="done")
            await state.save(connections.read, work)
    report(work)
    return work


async def _lock(read: Connection) -> None:
    """Take the lock of rebuilds in the session that writes; its end lets the next rebuild start."""
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT_S
    while not await read.fetchval(_TRY_LOCK, REBUILD_LOCK):
        if asyncio.get_running_loop().time() > deadline:
            raise RebuildNotStarted("another rebuild of this read database is running; there can be one at a time")
        await asyncio.sleep(0.2)


async def _resume_or_start(
    connections: RebuildConnections, within: ReceivedRange | None, deletes_strays: bool, starts_over: bool
) -> RebuildState:
    known = await state.find_unfinished(connections.read)
    if within is None:
        if known is None:
            raise RebuildNotStarted("there is no unfinished rebuild to go on with")
        return known
    if known and (known.range, known.deletes_strays) == (within, deletes_strays) and not starts_over:
        return known
    return await state.start_rebuild(connections.read, connections.write, within, deletes_strays)


async def _check_links(
    connections: RebuildConnections, work: RebuildState, kept_since: datetime | None, report: Report
) -> RebuildState:
    place = FIRST_POSITION
    while links := await list_links(connections.read, place):
        place = links[-1][:3]
        wrong = await find_unjustified_links(connections.write, links, kept_since, deletes_strays=work.deletes_strays)

        async def delete(wrong: Sequence[IdentityLink] = wrong, known: RebuildState = work) -> RebuildState:
            deleted = await identities.delete_links(connections.read, wrong)
            counted = replace(known, deleted_links=known.deleted_links + deleted)
            await state.save(connections.read, counted)
            return counted

        if wrong:
            work = await _retry_on_deadlock(connections.read, delete)
        work = replace(work, checked_links=work.checked_links + len(links))
        report(work)
    work = replace(await state.extend_to_latest(connections.write, work), phase="batches")
    async with connections.read.transaction():
        await state.save(connections.read, work)
    return work


async def _rebuild_batches(
    connections: RebuildConnections, work: RebuildState, kept_since: datetime | None, report: Report
) -> RebuildState:
    remembered: set[HourKey] = set()
    source = batches.read_groups(connections.ahead, work.position, work.through, kept_since)
    async with aclosing(batches.prefetch(source)) as groups:
        async for group in groups:
            work = replace(work, missing_events=work.missing_events + group.missing_events)
            try:
                work = await _rebuild_group(connections, group, work, remembered)
            except _BATCH_ERRORS:
                for single in group.single():
                    work = await _rebuild_single(connections, single, work, remembered)
            report(work)

    async def turn_to_hours() -> RebuildState:
        if work.range.is_everything:
            await queue_all_hours(connections.read, of_events_too=work.deletes_strays)
            await drop_expired_hours(connections.read, kept_since)
        turned = replace(work, phase="hours", total_hours=await count_waiting_hours(connections.read))
        await state.save(connections.read, turned)
        return turned

    return await _retry_on_deadlock(connections.read, turn_to_hours)


async def _rebuild_group(
    connections: RebuildConnections, group: BatchGroup, work: RebuildState, remembered: set[HourKey]
) -> RebuildState:
    async def apply() -> tuple[RebuildState, GroupResult]:
        applied = await batches.apply_group(connections.read, group)
        await queue_hours(connections.read, applied.hours - remembered)
        moved = replace(
            work,
            position=max(group.rows),
            done_batches=work.done_batches + len(group.rows),
            done_events=work.done_events + applied.events,
            repaired_events=work.repaired_events + applied.repaired,
            repaired_links=work.repaired_links + applied.links,
        )
        await state.save(connections.read, moved)
        return moved, applied

    moved, applied = await _retry_on_deadlock(connections.read, apply)
    remembered |= applied.hours
    await consumer_progress.rewind_positions(connections.write, applied.entered)
    return moved


async def _rebuild_single(
    connections: RebuildConnections, single: BatchGroup, work: RebuildState, remembered: set[HourKey]
) -> RebuildState:
    try:
        return await _rebuild_group(connections, single, work, remembered)
    except _BATCH_ERRORS:
        (batch_id,) = single.rows
        passed = replace(
            work,
            position=batch_id,
            done_batches=work.done_batches + 1,
            failed_batches=[*work.failed_batches, batch_id],
        )
        async with connections.read.transaction():
            await state.save(connections.read, passed)
        return passed


async def _rebuild_hours(
    connections: RebuildConnections, work: RebuildState, kept_since: datetime | None, report: Report
) -> RebuildState:
    await drop_expired_hours(connections.read, kept_since)
    partially_applied = PartiallyAppliedCounts(connections.write)
    while hours := await list_waiting_hours(connections.read):
        if work.deletes_strays:
            strays = await find_strays(connections.snapshot, connections.write, hours)
            for start in range(0, len(strays), _MAX_DELETED_PER_RUN):
                work = await _delete_strays(connections.read, strays[start : start + _MAX_DELETED_PER_RUN], work)
        work = await _rebuild_counts(connections, partially_applied, hours, work)
        report(work)
    return work


async def _delete_strays(read: Connection, strays: list[EventKey], work: RebuildState) -> RebuildState:
    async def delete() -> RebuildState:
        deleted = await batches.delete_events(read, strays)
        days = {(system, at.date()) for system, at, _ in strays}
        await range_versions.raise_versions(read, days, range_versions.REBUILD)
        counted = replace(work, deleted_strays=work.deleted_strays + deleted)
        await state.save(read, counted)
        return counted

    return await _retry_on_deadlock(read, delete)


async def _rebuild_counts(
    connections: RebuildConnections, partially_applied: PartiallyAppliedCounts, hours: list[HourKey], work: RebuildState
) -> RebuildState:
    difference = await find_count_differences(connections.snapshot, partially_applied, hours)

    async def write() -> RebuildState:
        corrected = await write_count_differences(connections.read, hours, difference)
        counted = replace(
            work,
            done_hours=work.done_hours + len(hours),
            repaired_counts=work.repaired_counts + corrected,
        )
        await state.save(connections.read, counted)
        return counted

    return await _retry_on_deadlock(connections.read, write)


async def _retry_on_deadlock(read: Connection, step: Callable[[], Awaitable[T]]) -> T:
    """Run the step in a transaction, and again if PostgreSQL ended it because of a deadlock with a worker."""
    for attempt in range(_ATTEMPTS):
        try:
            async with read.transaction():
                return await step()
        except asyncpg.TransactionRollbackError:
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.1 * (attempt + 1))
    raise AssertionError("the last attempt returns or raises")
