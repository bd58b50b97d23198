"""The messages that a consumer has taken and not settled: applied in groups, tried again, or given up.

Why applying fails decides what follows:
    an outage           The database is away or full, lacks a right, or takes too long. Nothing is wrong with the batch,
                        so it is never given up. The group is halved until it fits; a single batch waits aside, lets the
                        others pass, and may take longer when it is tried again.
    anything else       PostgreSQL or the program cannot apply this batch. It is applied alone and its attempts are
                        counted in `read.apply_failures`, with a growing pause between them; after MAX_ATTEMPTS it is
                        rejected, which makes it a dead letter.

No count of the broker is used, because RabbitMQ counts other things in each version: up to 4.2 every message that comes
back, as after a lost connection, from 4.3 on only those that were rejected (its manual, "Negative Acknowledgements").
"""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal
from uuid import UUID

import asyncpg
from aio_pika.abc import AbstractIncomingMessage

from tracking.infra import metrics, postgres, telemetry
from tracking.infra.postgres import Pool
from tracking.tables import apply_failures
from tracking.tables.apply_failures import MAX_ATTEMPTS
from tracking.worker.batch_parts import B
from tracking.worker.inbox import Inbox

_log = logging.getLogger(__name__)
_ERROR_CHARACTERS = 2000
_MAX_RETRY_PAUSE_S = 60.0
# between attempts of any batch, while none succeeds
_MAX_OUTAGE_PAUSE_S = 2.0
# A batch that takes too long waits this many times what its last attempt took, so that the others get most of the time.
_PAUSES_PER_ATTEMPT = 4
# the largest prefetch
_MAX_GROUP_BATCHES = 1000
_TIMEOUT_ERRORS = (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)

_Result = Literal["applied", "waits", "given up"]


@dataclass(slots=True)
class BatchDelivery(Generic[B]):
    """A message with its batch. `is_single` is true if it is applied alone, with its attempts counted."""

    message: AbstractIncomingMessage
    batch: B
    size_bytes: int
    is_single: bool
    is_recalled: bool
    """Whether attempts of an earlier process, if there may be any, have been looked up."""
    is_slow: bool = False
    outages: int = 0
    due_at: float = 0.0

    @property
    def attempt_id(self) -> UUID:
        """The id by which the attempts of the batch, or of its part, are counted."""
        part = self.batch.part
        return apply_failures.make_attempt_id(self.batch.batch_id, 0 if part is None else part.first)

    @property
    def tag(self) -> int:
        """The broker's number of the delivery, which grows within a channel."""
        return int(self.message.delivery_tag or 0)


class Deliveries(Generic[B]):
    """The deliveries of one channel. A new channel begins with none, as the broker delivers all again.

    `slow_inbox` has a longer time limit, for a single batch that exceeded that of `inbox`.
    """

    def __init__(
        self,
        consumer: str,
        pool: Pool,
        inbox: Inbox[B],
        slow_inbox: Inbox[B],
        *,
        group_events: int,
        group_bytes: int,
        retry_pause_s: float,
    ) -> None:
        self._consumer = consumer
        self._pool = pool
        self._inbox = inbox
        self._slow_inbox = slow_inbox
        self._group_events = group_events
        self._group_bytes = group_bytes
        self._retry_pause_s = retry_pause_s
        self._ready: deque[BatchDelivery[B]] = deque()
        self._waiting: list[BatchDelivery[B]] = []
        self._max_batches: int | None = None
        self._is_group_slow = False
        self._outages_in_a_row = 0
        self._paused_until = 0.0
        self.given_up = 0
        self.outage: str | None = None
        """The error of the last attempt, if it was an outage."""

    def __len__(self) -> int:
        return len(self._ready) + len(self._waiting)

    @property
    def is_ready(self) -> bool:
        """Whether there is something to apply that does not wait."""
        return bool(self._ready)

    @property
    def has_full_group(self) -> bool:
        """Whether more messages would not make the next group larger."""
        events = sum(delivery.batch.event_count for delivery in self._ready)
        return events >= self._group_events or sum(d.size_bytes for d in self._ready) >= self._group_bytes

    async def add(self, message: AbstractIncomingMessage, batch: B, size_bytes: int) -> None:
        """Take a message. A second one of what is in hand, as the relay may publish it, is acknowledged."""
        for held in (*self._ready, *self._waiting):
            if held.batch.batch_id == batch.batch_id and held.batch.part == batch.part:
                await message.ack()
                return
        # A message that comes again may have ended the process that had it before, so its attempts are counted.
        came_before = bool(message.redelivered)
        self._ready.append(
            BatchDelivery(message, batch, size_bytes, is_single=came_before, is_recalled=not came_before)
        )

    def get_wait_s(self) -> float | None:
        """Seconds until something can be applied; None if there is nothing."""
        now = time.monotonic()
        dues = [delivery.due_at for delivery in self._waiting]
        if self._ready:
            dues.append(now)
        return max(0.0, min(dues) - now, self._paused_until - now) if dues else None

    async def apply_next(self) -> None:
        """Apply a group of what is ready, and one delivery that waited. No error of applying is raised."""
        now = time.monotonic()
        if now < self._paused_until:
            return
        due = min(self._waiting, key=lambda delivery: delivery.due_at, default=None)
        if self._ready:
            await self._apply_group(self._take_group())
        if due is not None and due.due_at <= now and time.monotonic() >= self._paused_until:
            self._waiting.remove(due)
            await self._apply_group([due])
        metrics.batches_waiting.labels(self._consumer).set(len(self._waiting))

    def _take_group(self) -> list[BatchDelivery[B]]:
        group: list[BatchDelivery[B]] = []
        events = size_bytes = 0
        while self._ready and len(group) != self._max_batches:
            if events >= self._group_events or size_bytes >= self._group_bytes:
                break
            if self._ready[0].is_single:
                if not group:
                    group.append(self._ready.popleft())
                break
            group.append(self._ready.popleft())
            events += group[-1].batch.event_count
            size_bytes += group[-1].size_bytes
        return group

    async def _apply_group(self, group: Sequence[BatchDelivery[B]]) -> None:
        parent = telemetry.extract_trace_context(dict(group[0].message.headers))
        started = time.monotonic()
        result: _Result = "applied"
        try:
            with telemetry.span(f"apply {self._consumer}", parent=parent, batches=len(group)):
                if group[0].is_single:
                    result = await self._apply_single(group[0])
                else:
                    await self._get_inbox(group).apply([delivery.batch for delivery in group])
        except Exception as error:
            if postgres.is_outage(error):
                self._wait_for_outage(group, error, time.monotonic() - started)
            else:
                self._divide(group, error)
            return
        if result == "applied":
            self._end_outage()
            await self._acknowledge(group)
        elif result == "given up":
            await group[0].message.reject(requeue=False)
            self.given_up += 1
            metrics.dead_letters.labels(self._consumer, "not_applicable").inc()

    def _get_inbox(self, group: Sequence[BatchDelivery[B]]) -> Inbox[B]:
        return self._slow_inbox if len(group) == 1 and group[0].is_slow else self._inbox

    def _divide(self, group: Sequence[BatchDelivery[B]], error: Exception) -> None:
        _log.warning("a group of %d batches failed, trying one by one: %s", len(group), _describe(error))
        for delivery in group:
            delivery.is_single = True
        self._ready.extendleft(reversed(group))

    async def _acknowledge(self, group: Sequence[BatchDelivery[B]]) -> None:
        last = max(delivery.tag for delivery in group)
        if all(held.tag > last for held in (*self._ready, *self._waiting)):
            await max(group, key=lambda delivery: delivery.tag).message.ack(multiple=True)
            return
        for delivery in group:
            await delivery.message.ack()

    def _end_outage(self) -> None:
        self._outages_in_a_row, self._paused_until, self.outage = 0, 0.0, None
        if self._max_batches is not None:
            # a group that took too long is approached slowly, because it would take too long again
            self._max_batches += 1 if self._is_group_slow else self._max_batches
            if self._max_batches >= _MAX_GROUP_BATCHES:
                self._max_batches = None

    def _wait_for_outage(self, group: Sequence[BatchDelivery[B]], error: Exception, seconds: float) -> None:
        self.outage = _describe(error)
        is_slow = isinstance(error, _TIMEOUT_ERRORS)
        self._paused_until = time.monotonic() + self._get_pause_s(self._outages_in_a_row + 1, _MAX_OUTAGE_PAUSE_S)
        self._outages_in_a_row += 1
        _log.warning("%s cannot apply %d batches at present: %s", self._consumer, len(group), self.outage)
        metrics.apply_retries.labels(self._consumer, "outage").inc()
        if len(group) > 1:
            self._max_batches = len(group) // 2
            self._is_group_slow = is_slow
            self._ready.extendleft(reversed(group))
            return
        (delivery,) = group
        delivery.outages += 1
        delivery.is_slow = delivery.is_slow or is_slow
        wait_s = self._get_pause_s(delivery.outages, _MAX_OUTAGE_PAUSE_S)
        self._wait(delivery, max(wait_s, _PAUSES_PER_ATTEMPT * seconds) if is_slow else wait_s)

    def _wait(self, delivery: BatchDelivery[B], seconds: float) -> None:
        delivery.due_at = time.monotonic() + seconds
        self._waiting.append(delivery)

    def _get_pause_s(self, failures: int, most_s: float) -> float:
        return float(min(self._retry_pause_s * 2 ** min(failures - 1, 30), most_s))

    async def _apply_single(self, delivery: BatchDelivery[B]) -> _Result:
        """Apply one batch, counting the attempt before it begins, as it may end the process. Raises an outage."""
        attempt_id = delivery.attempt_id
        if not delivery.is_recalled:
            failure = await apply_failures.find_failure(self._pool, self._consumer, attempt_id)
            delivery.is_recalled = True
            if failure is not None and failure.attempts:
                self._wait(delivery, self._get_pause_s(failure.attempts, _MAX_RETRY_PAUSE_S))
                return "waits"
        attempts = await apply_failures.begin_attempt(self._pool, self._consumer, attempt_id)
        if attempts > MAX_ATTEMPTS:
            _log.error("%s gives up batch %s, whose attempts are used up", self._consumer, delivery.batch.batch_id)
            return "given up"
        try:
            await self._get_inbox([delivery]).apply([delivery.batch])
        except Exception as error:
            if postgres.is_outage(error):
                await self._save(apply_failures.withdraw_attempt, attempt_id, _describe(error))
                raise
            return await self._fail(delivery, attempts, error)
        return "applied"

    async def _fail(self, delivery: BatchDelivery[B], attempts: int, error: Exception) -> _Result:
        said, batch_id = _describe(error), delivery.batch.batch_id
        _log.error("%s cannot apply batch %s (attempt %d): %s", self._consumer, batch_id, attempts, said)
        metrics.apply_retries.labels(self._consumer, "failure").inc()
        await self._save(apply_failures.save_error, delivery.attempt_id, said)
        if attempts >= MAX_ATTEMPTS:
            return "given up"
        self._wait(delivery, self._get_pause_s(attempts, _MAX_RETRY_PAUSE_S))
        return "waits"

    async def _save(
        self, change: Callable[[Pool, str, UUID, str], Awaitable[None]], attempt_id: UUID, said: str
    ) -> None:
        try:
            await change(self._pool, self._consumer, attempt_id, said)
        except postgres.POSTGRES_ERRORS as error:
            _log.warning("the failure of batch %s is in the log only: %s", attempt_id, postgres.describe_error(error))


def _describe(error: Exception) -> str:
    """Return the first line of an error's text. Further lines of PostgreSQL quote the row, which may be personal."""
    return f"{type(error).__name__}: {error}".partition("\n")[0].replace("\0", "\ufffd")[:_ERROR_CHARACTERS]
