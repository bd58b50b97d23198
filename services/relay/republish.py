"""Publishes batches that the gateway committed and could not publish, oldest first."""

from datetime import UTC, datetime, timedelta

from services.relay import leader, messages
from tracking.domain.ids import make_lowest_id
from tracking.infra import metrics
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher
from tracking.tables import event_batches

_MAX_BATCHES_PER_RUN = 50


async def republish(pool: Pool, publisher: Publisher, after_s: float) -> bool:
    """Publish up to 50 batches that are unpublished for `after_s`; return whether there may be more to do at once.

    Raises postgres.TRANSIENT_ERRORS. A batch whose confirm was lost is published twice; consumers find it in their
    inboxes.
    """
    before = make_lowest_id(datetime.now(UTC) - timedelta(seconds=after_s))
    async with pool.acquire() as connection, connection.transaction():
        if not await leader.try_lead(connection):
            return False
        batches = await event_batches.list_unpublished(connection, before, _MAX_BATCHES_PER_RUN)
        for batch in batches:
            body = await messages.build_message(connection, batch)
            # A batch without events cannot be sent; the reconciler finds it in no inbox and reports it.
            if body is not None and not await messages.publish_message(publisher, body, batch.id, reason="unpublished"):
                return False
            await event_batches.mark_published(connection, [batch.id], datetime.now(UTC))
    return len(batches) == _MAX_BATCHES_PER_RUN


async def update_unpublished_metrics(pool: Pool) -> None:
    """Bring the gauges up to date. Raises postgres.TRANSIENT_ERRORS."""
    number, oldest = await event_batches.count_unpublished(pool)
    age = datetime.now(UTC) - oldest if oldest else timedelta()
    metrics.batches_unpublished.set(number)
    metrics.oldest_unpublished_seconds.set(age.total_seconds())
