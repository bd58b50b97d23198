"""Group commit: concurrent requests share a transaction; a request that finds the process idle is committed at once.

Under load a new group starts at most every 10 ms, because each group becomes a message that every consumer has to
process. As soon as 64 requests or a full message are waiting, the next group is committed at once, beside up to two
that are still in progress, so that PostgreSQL works while this process decides further events (docs/decisions/0010).

The buffer of waiting events is bounded in events and bytes. A request beyond these bounds gets 503 and Retry-After, so
a slow database costs a limited amount of memory and never an acknowledged event. Each partner system has a share of it,
and their requests are committed in turn, so that one that sends too much delays and displaces no other
(`services/gateway/commit/capacity.py`).
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import compress
from operator import not_
from random import getrandbits
from typing import Any
from uuid import UUID

import asyncpg

from services.gateway.commit.capacity import Capacity
from services.gateway.commit.held_rows import HeldRows
from services.gateway.commit.micro_batch import (
    MAX_MESSAGE_BYTES,
    MAX_MESSAGE_EVENTS,
    CommitResult,
    KeyedGroup,
    MicroBatch,
    OnCommitted,
    PendingEvents,
    Share,
    count_system_bytes,
    get_event_key,
    split_into_messages,
)
from services.gateway.commit.store import ROW_ERRORS, EventStore, KeyHeld, describe_row_error, is_permanent_error
from tracking.contracts.events_tracked import HasSystemContext, count_bytes
from tracking.domain.errors import Unavailable
from tracking.domain.idempotency_key import IdempotencyKey
from tracking.domain.ids import make_uuid7
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import metrics, postgres

_log = logging.getLogger(__name__)
_OVERLOADED = "More events of this partner system wait for the database than this process may hold now."
_RETRY_DELAY_S = 0.1
_MAX_CONCURRENT_COMMITS = 3
# This many requests, or a full message, wait neither for the commit in progress nor for the next interval.
_FULL_GROUP_REQUESTS = 64
_MIN_GROUP_INTERVAL_S = 0.01
# A group fails at its earliest deadline. What has waited for long goes alone, so that it takes nothing fresh along.
_MAX_DEADLINE_SPREAD_S = 1.0
# If this many events failed one by one and none was stored, the database is at fault and not an event.
_MAX_FAILED_SINGLE_ROWS = 3


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """The events that were committed together and are published as one message."""

    id: UUID
    created_at: datetime
    systems: Sequence[HasSystemContext]
    events: Sequence[TrackingEvent]


@dataclass(slots=True)
class _Search:
    """The state of the search for rows of a group that cannot be stored now: bad ones by bisection, and held ones."""

    has_stored: bool = False
    tried_in_vain: int = 0
    # Once a row was found to be held, the others are tried without a wait, as there may be more of its kind.
    is_brief: bool = False
    held: list[MicroBatch] = field(default_factory=list)

    @property
    def is_hopeless(self) -> bool:
        return not self.has_stored and self.tried_in_vain >= _MAX_FAILED_SINGLE_ROWS


class GroupCommit:
    """`submit` returns when the events are on disk; `run` is the flusher.

    Every committed batch is given to each function of `on_commit`.
    """

    def __init__(
        self,
        store: EventStore,
        on_commit: Sequence[Callable[[CommittedBatch], None]],
        *,
        deadline_s: float,
        buffer_events: int,
        buffer_bytes: int,
    ) -> None:
        self._store = store
        self._on_commit = on_commit
        self._deadline_s = deadline_s
        self._capacity = Capacity(buffer_events, buffer_bytes)
        # the partner systems that have waiting requests, in turn
        self._turns: deque[Share] = deque()
        self._waiting_requests = self._waiting_events = self._waiting_bytes = 0
        self._in_flight = 0
        self._wake = asyncio.Event()
        self._paced_until = 0.0
        self._is_closing = False
        self._loop = asyncio.get_running_loop()
        self._held = HeldRows(self._try_held)
        metrics.buffered_events.set_function(lambda: self._capacity.held_events)

    async def submit(
        self, events: Sequence[TrackingEvent], system: HasSystemContext, key: IdempotencyKey | None = None
    ) -> CommitResult:
        """Store the events of one request; they may share a transaction with those of other requests.

        Raises Unprocessable if `key` was used before with another body; nothing is stored then. Raises Unavailable when
        the buffer is full, or the database did not commit within the deadline. Some of the events may have been stored
        nevertheless; if they have client ids, a repeated request does not store them twice.
        """
        result = CommitResult(key)
        futures: list[asyncio.Future[None]] = []
        parts = list(split_into_messages(events))
        size_bytes = sum(size_bytes for _, _, size_bytes in parts)
        share = None if self._is_closing else self._capacity.try_reserve(system, len(events), size_bytes)
        if share is None:
            raise Unavailable("overloaded", _OVERLOADED, 1)
        deadline = time.monotonic() + self._deadline_s
        for first, part, size_bytes in parts:
            future = self._loop.create_future()
            futures.append(future)
            on_done = partial(_resolve, future)
            self._enqueue(PendingEvents(part, first, system, size_bytes, deadline, result, on_done, share))
        if len(futures) == 1:
            await futures[0]
            return result
        results = await asyncio.gather(*futures, return_exceptions=True)
        for failure in results:
            if isinstance(failure, BaseException):
                raise failure
        return result

    def try_submit(
        self, event: TrackingEvent, system: HasSystemContext, on_done: OnCommitted, key: IdempotencyKey | None = None
    ) -> bool:
        """Store one event and call `on_done` with its result or the error `submit` would raise; False: no capacity."""
        size_bytes = count_bytes(event)
        share = None if self._is_closing else self._capacity.try_reserve(system, 1, size_bytes)
        if share is None:
            return False
        deadline = time.monotonic() + self._deadline_s
        self._enqueue(PendingEvents((event,), 0, system, size_bytes, deadline, CommitResult(key), on_done, share))
        return True

    def has_ample_capacity(self) -> bool:
        """Whether no request need be rejected before its body is decoded."""
        return self._capacity.is_half_free

    def require_capacity(self, body_bytes: int, system: HasSystemContext | None) -> None:
        """Raise Unavailable if over half is reserved and what such a body usually holds exceeds what the system may.

        Called before the body is decoded. Otherwise, under overload, most of the time would be spent on requests that
        are rejected in the end. None is a system that is not known yet.
        """
        if not (self._capacity.is_half_free or self._capacity.has_capacity(system, body_bytes)):
            raise Unavailable("overloaded", _OVERLOADED, 1)

    def _enqueue(self, pending: PendingEvents) -> None:
        share = pending.share
        if not share.waiting:
            self._turns.append(share)
        share.waiting.append(pending)
        self._waiting_requests += 1
        self._waiting_events += len(pending.events)
        self._waiting_bytes += pending.size_bytes
        # Waking the flusher for each request would cost more than it gains.
        if self._waiting_requests == 1 or self._is_due():
            self._wake.set()

    async def run(self, beat: Callable[[], None]) -> None:
        """Commit waiting events until `close`, then those that are left. Calls `beat` at least every few seconds."""
        async with asyncio.TaskGroup() as flushing:
            while self._turns or not self._is_closing:
                beat()
                if self._is_due():
                    self._in_flight += 1
                    self._paced_until = self._loop.time() + _MIN_GROUP_INTERVAL_S
                    flushing.create_task(self._flush(self._take_group()))
                    continue
                is_paced = self._turns and self._in_flight == 0
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._paced_until - self._loop.time() if is_paced else 5):
                        await self._wake.wait()

    def _is_due(self) -> bool:
        if not self._turns or self._in_flight == _MAX_CONCURRENT_COMMITS:
            return False
        if (
            self._waiting_requests >= _FULL_GROUP_REQUESTS
            or self._waiting_bytes >= MAX_MESSAGE_BYTES
            or self._waiting_events >= MAX_MESSAGE_EVENTS
        ):
            return True
        return self._in_flight == 0 and (self._is_closing or self._loop.time() >= self._paced_until)

    def close(self) -> None:
        """Accept no further events; `run` returns once the waiting ones are committed."""
        self._is_closing = True
        self._wake.set()

    def _take_group(self) -> list[PendingEvents]:
        """Take what fits in a message, a request of each partner system in turn."""
        taken: list[PendingEvents] = []
        systems: set[Share] = set()
        events = size_bytes = waiting_bytes = 0
        deadline = self._turns[0].waiting[0].deadline
        keyed, has_keys = KeyedGroup(), False
        turns = self._turns
        while turns:
            share = turns[0]
            pending = share.waiting[0]
            pending_events = len(pending.events)
            pending_bytes = pending.size_bytes
            if share not in systems:
                systems.add(share)
                pending_bytes += count_system_bytes(pending.system)
            if taken and (
                events + pending_events > MAX_MESSAGE_EVENTS
                or size_bytes + pending_bytes > MAX_MESSAGE_BYTES
                or not -_MAX_DEADLINE_SPREAD_S < pending.deadline - deadline < _MAX_DEADLINE_SPREAD_S
            ):
                break
            has_keys = has_keys or pending.result.idempotency_key is not None
            if has_keys and taken and not keyed.admits(taken, pending):
                break
            taken.append(share.waiting.popleft())
            events += pending_events
            size_bytes += pending_bytes
            waiting_bytes += pending.size_bytes
            if not share.waiting:
                turns.popleft()
            elif turns[-1] is not share:
                turns.rotate(-1)
        self._waiting_requests -= len(taken)
        self._waiting_events -= events
        self._waiting_bytes -= waiting_bytes
        return taken

    async def _flush(self, group: list[PendingEvents]) -> None:
        started = time.perf_counter()
        search = _Search()
        deadline = min(pending.deadline for pending in group)
        try:
            if not await self._is_done(group, self._commit_group(group, deadline, search)):
                return
        finally:
            self._in_flight -= 1
            self._wake.set()
        held_results = {id(result) for part in search.held for owners in part.get_owners() for result, _ in owners}
        is_held = [id(pending.result) in held_results for pending in group] if held_results else []
        self._release(list(compress(group, map(not_, is_held))) if is_held else group)
        metrics.commit_events.observe(sum(len(pending.events) for pending in group))
        metrics.commit_seconds.observe(time.perf_counter() - started)
        if is_held:
            group = list(compress(group, is_held))
            if await self._is_done(group, self._held.finish(search.held, deadline)):
                self._release(group)

    async def _is_done(self, group: list[PendingEvents], work: Coroutine[Any, Any, None]) -> bool:
        """Await work for a group; if it fails, give the failure to its requests, so that other groups can continue."""
        try:
            await work
        except BaseException as error:
            self._release(group, error)
            if not isinstance(error, Exception):
                raise
            _log.exception("a micro-batch failed for a reason that nobody expected")
            return False
        return True

    async def _commit_group(self, group: list[PendingEvents], deadline: float, search: _Search) -> None:
        micro_batch = MicroBatch(group)
        if self._held.has_keys():
            search.is_brief = True
            if rows := self._held.find(micro_batch.events):
                search.held.append(micro_batch.take_out(rows))
                if not micro_batch.events:
                    return
        await self._commit(micro_batch, deadline, search)

    async def _try_held(self, micro_batch: MicroBatch, deadline: float) -> Sequence[MicroBatch]:
        search = _Search(is_brief=True)
        await self._commit(micro_batch, deadline, search)
        return search.held

    async def _commit(self, micro_batch: MicroBatch, deadline: float, search: _Search) -> None:
        batch_id = make_uuid7(time.time_ns() // 1_000_000, getrandbits(74))
        created_at = datetime.now(UTC)
        is_retry = False
        while True:
            try:
                timeout_s = max(deadline - time.monotonic(), 0.001)
                outcome = await self._store.commit(
                    batch_id,
                    created_at,
                    micro_batch.events,
                    is_retry=is_retry,
                    is_brief=search.is_brief,
                    timeout_s=timeout_s,
                    claims=micro_batch.claims,
                )
                break
            except KeyHeld as error:
                self._take_out_held(micro_batch, error, search)
                if not micro_batch.events:
                    return
            except ROW_ERRORS as error:
                await self._bisect(micro_batch, deadline, error, search)
                return
            except postgres.TRANSIENT_ERRORS as error:
                # A wait for a lock on more than one row is no reason to wait for none.
                is_retry, search.is_brief = True, False
                if time.monotonic() + _RETRY_DELAY_S >= deadline:
                    _log.warning("not committed within the deadline: %s", postgres.describe_error(error))
                    micro_batch.mark_unavailable()
                    return
                await asyncio.sleep(_RETRY_DELAY_S)
            except asyncpg.PostgresError as error:
                await self._bisect(micro_batch, deadline, error, search)
                return
        search.has_stored = True
        fresh = micro_batch.mark_outcome(outcome)
        if fresh:
            batch = CommittedBatch(batch_id, created_at, micro_batch.systems, fresh)
            for receive in self._on_commit:
                receive(batch)

    def _take_out_held(self, micro_batch: MicroBatch, error: KeyHeld, search: _Search) -> None:
        key = get_event_key(error.event)
        self._held.add(key)
        row = next(row for row, event in enumerate(micro_batch.events) if get_event_key(event) == key)
        search.held.append(micro_batch.take_out([row]))
        search.is_brief = True

    async def _bisect(self, micro_batch: MicroBatch, deadline: float, error: BaseException, search: _Search) -> None:
        """Halve the micro-batch until the row that PostgreSQL rejects stands alone; the other rows commit."""
        if len(micro_batch.events) > 1:
            for half in micro_batch.split():
                if search.is_hopeless:
                    half.mark_unavailable()
                else:
                    await self._commit(half, deadline, search)
        elif is_permanent_error(micro_batch.events[0], error):
            _log.warning("PostgreSQL refuses an event: %s", describe_row_error(error))
            micro_batch.mark_rejected(describe_row_error(error))
        else:
            search.tried_in_vain += 1
            _log.error("PostgreSQL stores nothing, and no event is at fault: %s", describe_row_error(error))
            micro_batch.mark_unavailable()

    def _release(self, group: Sequence[PendingEvents], error: BaseException | None = None) -> None:
        for pending in group:
            self._capacity.release(pending.share, len(pending.events), pending.size_bytes)
            pending.on_done(pending.result, error or pending.result.failure)


def _resolve(future: asyncio.Future[None], _: CommitResult, error: BaseException | None) -> None:
    if future.done():
        return  # its request was cancelled
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
