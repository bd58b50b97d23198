"""Publishes what the gateway committed and could not publish, oldest first."""

from datetime import UTC, datetime, timedelta

from services.relay import leader, messages
from services.relay.messages import BatchRow
from tracking.domain.ids import make_lowest_id
from tracking.infra import metrics
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher

_MAX_BATCHES_PER_RUN = 50

_SELECT_UNPUBLISHED = """
select id, created_at, partner_system_ids, event_ids
  from write.event_batches
 where published_at is null
   and id < $1
 order by id
 limit $2
"""

_COUNT_UNPUBLISHED = """
select count(*) as number,
       (
           select created_at
             from write.event_batches
            where published_at is null
            order by id
            limit 1
       ) as oldest
  from write.event_batches
 where published_at is null
"""


async def republish(pool: Pool, publisher: Publisher, after_s: float) -> bool:
    """Publish up to 50 batches that are unpublished for `after_s`; True if there may be more to do at once.

    Raises postgres.TRANSIENT. A batch whose confirm was lost is published twice; the inboxes know it.
    """
    before = make_lowest_id(datetime.now(UTC) - timedelta(seconds=after_s))
    async with pool.acquire() as connection, connection.transaction():
        if not await leader.try_lead(connection):
            return False
        claims = [
            BatchRow(**dict(row)) for row in await connection.fetch(_SELECT_UNPUBLISHED, before, _MAX_BATCHES_PER_RUN)
        ]
        for claim in claims:
            body = await messages.build_message(connection, claim)
            # without events there is nothing to send; the reconciler finds it in no inbox and tells a person
            if body is not None and not await messages.publish_message(publisher, body, claim.id, reason="unpublished"):
                return False
            await messages.mark_published(connection, claim.id)
    return len(claims) == _MAX_BATCHES_PER_RUN


async def update_unpublished_metrics(pool: Pool) -> None:
    """Bring the gauges up to date. Raises postgres.TRANSIENT."""
    found = await pool.fetchrow(_COUNT_UNPUBLISHED)
    assert found is not None  # noqa: S101 - a count has a row
    age = datetime.now(UTC) - found["oldest"] if found["oldest"] else timedelta()
    metrics.batches_unpublished.set(found["number"])
    metrics.oldest_unpublished_seconds.set(age.total_seconds())
