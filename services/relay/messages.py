"""Builds messages from committed batches: the batch row is a claim check, the events are read from their table."""

from collections.abc import Mapping
from uuid import UUID

from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import SystemContext
from tracking.domain.errors import Unavailable
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import metrics, telemetry
from tracking.infra.postgres import USE_INDEX_LOOKUPS, Connection
from tracking.infra.rabbitmq import Publisher
from tracking.tables.event_batches import BatchRow
from tracking.tables.event_columns import compose_select

_SELECT_EVENTS = compose_select(
    [f"e.{name}" for name in TrackingEvent._fields],
    """
  from unnest($1::uuid[], $2::uuid[]) with ordinality as claimed (partner_system_id, id, position)
  join write.tracking_events e
    on e.partner_system_id = claimed.partner_system_id
   and e.id = claimed.id
 order by claimed.position
""",
)

_SELECT_SYSTEMS = """
select s.id as partner_system_id,
       s.name as system_name,
       p.id as partner_id,
       p.name as partner_name
  from write.partner_systems s
  join write.partners p on p.id = s.partner_id
 where s.id = any($1::uuid[])
"""


async def build_message(connection: Connection, batch: BatchRow) -> bytes | None:
    """Build the message of a batch, with the present names; None if retention has dropped all of its events.

    Must be called inside a transaction, because it changes settings of the planner.
    """
    await connection.execute(USE_INDEX_LOOKUPS)
    rows = await connection.fetch(_SELECT_EVENTS, batch.partner_system_ids, batch.event_ids)
    if not rows:
        return None
    systems = await connection.fetch(_SELECT_SYSTEMS, list(set(batch.partner_system_ids)))
    return events_tracked.encode(
        batch.id,
        batch.created_at,
        [SystemContext(**dict(row)) for row in systems],
        [TrackingEvent._make(row.values()) for row in rows],
    )


async def publish_message(
    publisher: Publisher, body: bytes, message_id: UUID | str, *, reason: str, only_to: str | None = None
) -> bool:
    """Publish to all consumers, or to the queue `only_to`; return False if the broker did not accept the message.

    A message that was not accepted is tried again later.
    """
    route: Mapping[str, str] = {"exchange": "", "routing_key": only_to} if only_to else {}
    try:
        await publisher.publish(
            body,
            message_id=str(message_id),
            message_type=events_tracked.MESSAGE_TYPE,
            content_type=events_tracked.CONTENT_TYPE,
            headers=telemetry.inject_trace_context(),
            **route,
        )
    except Unavailable:
        metrics.publish_failures.labels(reason).inc()
        return False
    metrics.batches_republished.labels(reason).inc()
    return True
