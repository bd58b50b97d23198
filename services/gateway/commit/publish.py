"""Publishes committed batches and records the broker's confirms, without delaying a response.

A batch in here is never the only copy of its events. After any failure (broker unavailable, queue full, process killed)
its row in the database is still without `published_at`, and the relay publishes it a few seconds later.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from services.gateway.commit.group_commit import CommittedBatch
from tracking.contracts import events_tracked
from tracking.domain.errors import Unavailable
from tracking.infra import metrics, postgres, telemetry
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher
from tracking.tables import event_batches

_log = logging.getLogger(__name__)
_MAX_WAITING_EVENTS = 50_000
# A confirm takes some turns of the event loop, long ones under load: with 32, one batch in twenty went by the relay.
_IN_FLIGHT = 128
_MARK_INTERVAL_S = 0.1


class BatchPublisher:
    """Publishes batches: `enqueue` accepts one at once; `run` publishes until `close`, then those that are left."""

    def __init__(self, publisher: Publisher, pool: Pool) -> None:
        self._publisher = publisher
        self._pool = pool
        self._waiting: deque[CommittedBatch] = deque()
        self._waiting_events = 0
        self._arrived = asyncio.Event()
        self._confirmed: list[UUID] = []
        self._has_confirmed = asyncio.Event()
        self._is_closing = False
        self._was_refused = False

    def enqueue(self, batch: CommittedBatch) -> None:
        """Queue a batch to be published soon, or leave it to the relay if too many are waiting already."""
        if self._waiting_events > _MAX_WAITING_EVENTS:
            metrics.publish_failures.labels("backlog").inc()
            return
        self._waiting.append(batch)
        self._waiting_events += len(batch.events)
        self._arrived.set()

    def close(self) -> None:
        """Accept no further batches; `run` returns once the waiting ones were tried."""
        self._is_closing = True
        self._arrived.set()
        self._has_confirmed.set()

    async def run(self, beat: Callable[[], None]) -> None:
        """Publish with several messages in flight; calls `beat` at least every few seconds."""
        free = asyncio.Semaphore(_IN_FLIGHT)
        async with asyncio.TaskGroup() as tasks:
            marking = tasks.create_task(self._mark_confirmed())
            async with asyncio.TaskGroup() as publishing:
                while self._waiting or not self._is_closing:
                    beat()
                    if not self._waiting:
                        self._arrived.clear()
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(5):
                                await self._arrived.wait()
                        continue
                    await free.acquire()
                    batch = self._waiting.popleft()
                    self._waiting_events -= len(batch.events)
                    publishing.create_task(self._publish(batch, free))
            marking.cancel()
        await self._mark()

    async def _publish(self, batch: CommittedBatch, free: asyncio.Semaphore) -> None:
        batch_id = batch.id
        try:
            with telemetry.span("publish", events=len(batch.events)):
                body = events_tracked.encode(batch_id, batch.created_at, batch.systems, batch.events)
                del batch  # of many events, which need not stay in memory until the confirm
                await self._publisher.publish(
                    body,
                    message_id=str(batch_id),
                    message_type=events_tracked.MESSAGE_TYPE,
                    content_type=events_tracked.CONTENT_TYPE,
                    headers=telemetry.inject_trace_context(),
                )
        except Unavailable as error:
            metrics.publish_failures.labels(error.code).inc()
            if not self._was_refused:
                _log.warning("left to the relay: %s", error.message)
            self._was_refused = True
        except Exception:
            # The relay publishes the batch in any case; an error of the broker's library must not end a process that
            # takes events.
            metrics.publish_failures.labels("unexpected").inc()
            _log.exception("left to the relay, for a reason that nobody expected")
        else:
            if self._was_refused:
                _log.info("publishing works again")
            self._was_refused = False
            metrics.batches_published.labels("gateway").inc()
            self._confirmed.append(batch_id)
            self._has_confirmed.set()
        finally:
            free.release()

    async def _mark_confirmed(self) -> None:
        """Record many confirms in one statement, a few times a second."""
        while True:
            await self._has_confirmed.wait()
            await asyncio.sleep(_MARK_INTERVAL_S)
            await self._mark()

    async def _mark(self) -> None:
        self._has_confirmed.clear()
        confirmed, self._confirmed = self._confirmed, []
        if not confirmed:
            return
        try:
            await event_batches.mark_published(self._pool, confirmed, datetime.now(UTC))
        except postgres.POSTGRES_ERRORS as error:
            _log.warning(
                "%d confirms not noted, the relay repeats them: %s", len(confirmed), postgres.describe_error(error)
            )
