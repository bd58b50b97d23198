"""Publishes batches that the gateway committed and could not publish, oldest first.

One that cannot be sent holds up none behind it. If that is certain (an event larger than the broker takes, a system
that is not registered), it becomes a dead letter of each consumer. If the broker just did not confirm it, it is tried
again after a pause that grows, and becomes a dead letter if others are sent meanwhile.
"""

import logging
import time
from datetime import UTC, datetime, timedelta

from services.relay import leader, messages, unsendable
from services.relay.messages import Unsendable
from services.relay.unsendable import Postponed
from tracking.contracts import topology
from tracking.domain.errors import Unavailable
from tracking.domain.ids import make_lowest_id
from tracking.infra import metrics
from tracking.infra.postgres import Connection, Pool
from tracking.infra.rabbitmq import Publisher
from tracking.tables import event_batches
from tracking.tables.event_batches import BatchRow

_log = logging.getLogger(__name__)
_MAX_BATCHES_PER_RUN = 50
# the loop must say in time that it is alive
_MAX_RUN_S = 5.0
# each may take as long as a publish may take
_MAX_FAILURES_PER_RUN = 3


class Republisher:
    """Publishes what is unpublished for `after_s`."""

    def __init__(self, pool: Pool, publisher: Publisher, after_s: float) -> None:
        self._pool = pool
        self._publisher = publisher
        self._after_s = after_s
        self._postponed = Postponed("republish")

    async def republish(self) -> bool:
        """Publish up to 50 batches; return whether there may be more to do at once.

        Raises postgres.TRANSIENT_ERRORS. A batch whose confirm was lost is published twice; consumers find it in their
        inboxes.
        """
        before = make_lowest_id(datetime.now(UTC) - timedelta(seconds=self._after_s))
        until = time.monotonic() + _MAX_RUN_S
        failures = 0
        async with self._pool.acquire() as connection, connection.transaction():
            if not await leader.try_lead(connection):
                return False
            waiting = self._postponed.list_waiting()
            batches = await event_batches.list_unpublished(connection, before, _MAX_BATCHES_PER_RUN, waiting)
            for batch in batches:
                try:
                    await self._send(connection, batch)
                except Unavailable as error:
                    failures += 1
                    if unsendable.concerns_every_message(error) or failures == _MAX_FAILURES_PER_RUN:
                        return False
                if time.monotonic() > until:
                    return True
        return len(batches) == _MAX_BATCHES_PER_RUN

    async def _send(self, connection: Connection, batch: BatchRow) -> None:
        try:
            failed = await messages.send_batch(connection, self._publisher, batch, reason="unpublished")
        except Unavailable as error:
            if unsendable.concerns_every_message(error):
                raise
            _log.warning("batch %s is tried again later: %s", batch.id, error.message)
            if not self._postponed.record_failure(batch.id):
                raise
            failed = Unsendable(list(batch.event_ids), f"RabbitMQ takes other batches: {error.message}")
        if failed is not None:
            await unsendable.save_dead_letters(connection, batch, topology.CONSUMERS, failed)
        await event_batches.mark_published(connection, [batch.id], datetime.now(UTC))
        self._postponed.record_done(batch.id)


async def update_unpublished_metrics(pool: Pool) -> None:
    """Bring the gauges up to date. Raises postgres.TRANSIENT_ERRORS."""
    number, oldest = await event_batches.count_unpublished(pool)
    age = datetime.now(UTC) - oldest if oldest else timedelta()
    metrics.batches_unpublished.set(number)
    metrics.oldest_unpublished_seconds.set(age.total_seconds())
