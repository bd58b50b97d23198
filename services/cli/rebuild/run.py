"""Makes the read model and its counts again what the write database says, while events go on coming in.

After wrong links between ids have gone (rebuild_links), two halves (rebuild_batches, rebuild_hours) in many short
transactions, each of which moves the position with its work: a rebuild that was killed goes on where it was, and one
that is never taken up again leaves no batch half done. Why it goes by batch: docs/decisions/0007.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

import asyncpg

from services.cli.rebuild import batches, hours, state
from services.cli.rebuild import hours as rebuild_hours
from services.cli.rebuild import links as rebuild_links
from services.cli.rebuild.batches import BatchGroup, EventKey, GroupResult
from services.cli.rebuild.hours import PartiallyAppliedCounts
from services.cli.rebuild.state import RebuildState, ReceivedRange
from tracking.domain.identity_link import IdentityLink
from tracking.infra.postgres import REBUILD_LOCK, Connection, Pool
from tracking.tables import consumer_progress, identities, range_versions
from tracking.tables.rollups import HourKey

T = TypeVar("T")
Report = Callable[[RebuildState], None]

# the server may need a moment to notice that the process before us was killed
_LOCK_WAIT_S = 10.0
_ATTEMPTS = 10
_MAX_DELETED_PER_RUN = 5_000
# What is wrong with a batch rather than with the database; as the workers, we go on with its neighbours.
_BATCH_ERRORS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.ProgramLimitExceededError)

_TRY_LOCK = "select pg_try_advisory_lock($1)"


@dataclass(frozen=True, slots=True)
class RebuildConnections:
    """Connections that a rebuild keeps to its end."""

    write: Connection
    ahead: Connection
    """To the write database, for the chunk after the one in hand."""
    read: Connection
    """Holds the lock and makes every change to the read database."""
    snapshot: Connection
    """Reads the read database as it is at one moment."""


class RebuildNotStarted(Exception):
    """Nothing was done, and why."""


async def rebuild(
    write_pool: Pool,
    read_pool: Pool,
    within: ReceivedRange | None,
    *,
    deletes_strays: bool,
    starts_over: bool,
    report: Report,
) -> RebuildState:
    """Rebuild what was received `within`; None goes on with the unfinished one, whatever its range.

    An unfinished rebuild of the same range is taken up unless `starts_over`; of another range, it is given up. `report`
    is called after each step. Raises RebuildRefused, UnknownSystem and postgres.TRANSIENT; after the latter the same
    call goes on where it was.
    """
    async with AsyncExitStack() as connections:
        opened = [
            await connections.enter_async_context(pool.acquire())
            for pool in (write_pool, write_pool, read_pool, read_pool)
        ]
        sessions = RebuildConnections(*opened)
        await _lock(sessions.read)
        work = await _resume_or_start(sessions, within, deletes_strays, starts_over)
        report(work)
        if work.phase == "links":
            work = await _check_links(sessions, work, report)
        if work.phase == "batches":
            await state.create_partitions(sessions.read, sessions.write, work)
            work = await _rebuild_batches(sessions, work, report)
        work = await _rebuild_hours(sessions, work, report)
        async with sessions.read.transaction():
            work = replace(work, phase="done")
            await state.save(sessions.read, work)
    report(work)
    return work


async def _lock(read: Connection) -> None:
    """Held by the session that writes: when it ends, whoever comes next may start."""
    deadline = asyncio.get_running_loop().time() + _LOCK_WAIT_S
    while not await read.fetchval(_TRY_LOCK, REBUILD_LOCK):
        if asyncio.get_running_loop().time() > deadline:
            raise RebuildNotStarted("another rebuild of this read database is running; there can be one at a time")
        await asyncio.sleep(0.2)


async def _resume_or_start(
    sessions: RebuildConnections, within: ReceivedRange | None, deletes_strays: bool, starts_over: bool
) -> RebuildState:
    known = await state.find_unfinished(sessions.read)
    if within is None:
        if known is None:
            raise RebuildNotStarted("there is no unfinished rebuild to go on with")
        return known
    if known and (known.range, known.deletes_strays) == (within, deletes_strays) and not starts_over:
        return known
    return await state.start_rebuild(sessions.read, sessions.write, within, deletes_strays)


async def _check_links(sessions: RebuildConnections, work: RebuildState, report: Report) -> RebuildState:
    place = rebuild_links.FIRST_POSITION
    while links := await rebuild_links.list_links(sessions.read, place):
        place = links[-1][:3]
        wrong = await rebuild_links.find_unjustified_links(sessions.write, links, deletes_strays=work.deletes_strays)

        async def delete(wrong: Sequence[IdentityLink] = wrong, known: RebuildState = work) -> RebuildState:
            deleted = await identities.delete_links(sessions.read, wrong)
            counted = replace(known, deleted_links=known.deleted_links + deleted)
            await state.save(sessions.read, counted)
            return counted

        if wrong:
            work = await _retry_on_deadlock(sessions.read, delete)
        work = replace(work, checked_links=work.checked_links + len(links))
        report(work)
    work = replace(await state.extend_to_latest(sessions.write, work), phase="batches")
    async with sessions.read.transaction():
        await state.save(sessions.read, work)
    return work


async def _rebuild_batches(sessions: RebuildConnections, work: RebuildState, report: Report) -> RebuildState:
    remembered: set[HourKey] = set()
    source = batches.read_groups(sessions.ahead, work.position, work.through)
    async with aclosing(batches.prefetch(source)) as chunks:
        async for chunk in chunks:
            work = replace(work, missing_events=work.missing_events + chunk.missing_events)
            try:
                work = await _rebuild_group(sessions, chunk, work, remembered)
            except _BATCH_ERRORS:
                for single in chunk.single():
                    work = await _rebuild_single(sessions, single, work, remembered)
            report(work)

    async def turn_to_hours() -> RebuildState:
        if work.range.is_everything:
            await rebuild_hours.queue_all_hours(sessions.read, of_events_too=work.deletes_strays)
        turned = replace(work, phase="hours", total_hours=await rebuild_hours.count_waiting_hours(sessions.read))
        await state.save(sessions.read, turned)
        return turned

    return await _retry_on_deadlock(sessions.read, turn_to_hours)


async def _rebuild_group(
    sessions: RebuildConnections, chunk: BatchGroup, work: RebuildState, remembered: set[HourKey]
) -> RebuildState:
    async def apply() -> tuple[RebuildState, GroupResult]:
        applied = await batches.apply_group(sessions.read, chunk)
        await hours.queue_hours(sessions.read, applied.hours - remembered)
        moved = replace(
            work,
            position=max(chunk.rows),
            done_batches=work.done_batches + len(chunk.rows),
            done_events=work.done_events + applied.events,
            repaired_events=work.repaired_events + applied.repaired,
            repaired_links=work.repaired_links + applied.links,
        )
        await state.save(sessions.read, moved)
        return moved, applied

    moved, applied = await _retry_on_deadlock(sessions.read, apply)
    remembered |= applied.hours
    await consumer_progress.rewind_positions(sessions.write, applied.entered)
    return moved


async def _rebuild_single(
    sessions: RebuildConnections, single: BatchGroup, work: RebuildState, remembered: set[HourKey]
) -> RebuildState:
    try:
        return await _rebuild_group(sessions, single, work, remembered)
    except _BATCH_ERRORS:
        (batch_id,) = single.rows
        passed = replace(
            work,
            position=batch_id,
            done_batches=work.done_batches + 1,
            failed_batches=[*work.failed_batches, batch_id],
        )
        async with sessions.read.transaction():
            await state.save(sessions.read, passed)
        return passed


async def _rebuild_hours(sessions: RebuildConnections, work: RebuildState, report: Report) -> RebuildState:
    half_applied = PartiallyAppliedCounts(sessions.write)
    while hours := await rebuild_hours.list_waiting_hours(sessions.read):
        if work.deletes_strays:
            strays = await rebuild_hours.find_strays(sessions.snapshot, sessions.write, hours)
            for start in range(0, len(strays), _MAX_DELETED_PER_RUN):
                work = await _delete_strays(sessions.read, strays[start : start + _MAX_DELETED_PER_RUN], work)
        work = await _rebuild_counts(sessions, half_applied, hours, work)
        report(work)
    return work


async def _delete_strays(read: Connection, strays: list[EventKey], work: RebuildState) -> RebuildState:
    async def delete() -> RebuildState:
        await batches.delete_events(read, strays)
        days = {(system, at.date()) for system, at, _ in strays}
        await range_versions.raise_versions(read, days, range_versions.REBUILD)
        counted = replace(work, deleted_strays=work.deleted_strays + len(strays))
        await state.save(read, counted)
        return counted

    return await _retry_on_deadlock(read, delete)


async def _rebuild_counts(
    sessions: RebuildConnections, half_applied: PartiallyAppliedCounts, hours: list[HourKey], work: RebuildState
) -> RebuildState:
    difference = await rebuild_hours.find_count_differences(sessions.snapshot, half_applied, hours)

    async def settle() -> RebuildState:
        corrected = await rebuild_hours.write_count_differences(sessions.read, hours, difference)
        settled = replace(
            work,
            done_hours=work.done_hours + len(hours),
            repaired_counts=work.repaired_counts + corrected,
        )
        await state.save(sessions.read, settled)
        return settled

    return await _retry_on_deadlock(sessions.read, settle)


async def _retry_on_deadlock(read: Connection, step: Callable[[], Awaitable[T]]) -> T:
    """Run the step in a transaction; again if a worker and it got in each other's way (deadlock)."""
    for attempt in range(_ATTEMPTS):
        try:
            async with read.transaction():
                return await step()
        except asyncpg.TransactionRollbackError:
            if attempt == _ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.1 * (attempt + 1))
    raise AssertionError("the last attempt returns or raises")
