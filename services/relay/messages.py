"""Sends committed batches again: the batch row is a claim check, the events are read from their table.

A batch that is too large for one message is sent in parts. A part that the broker finds too large is halved, so that
the limit of any broker is met without knowing it. An event that does not fit in a message alone, or of which none can
be made, is returned as unsendable; all others of its batch are sent (docs/decisions/0015).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import asyncpg

from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import BatchPart, SystemContext
from tracking.domain.errors import Unavailable
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import metrics, postgres, telemetry
from tracking.infra.postgres import USE_INDEX_LOOKUPS, Connection
from tracking.infra.rabbitmq import MessageTooLarge, Publisher
from tracking.tables.dead_letters.delivery import EVENTS_ARE_GONE
from tracking.tables.event_batches import BatchRow
from tracking.tables.event_columns import compose_select

# Larger than any batch that the gateway makes, in PostgreSQL's spelling of JSON too, so that only others are divided.
MAX_MESSAGE_BYTES = 1024 * 1024
_PAGE_EVENTS = 250
# Events that cannot be read, or of which no message can be made: a bad value, or a system that is not registered.
_EVENT_ERRORS: tuple[type[Exception], ...] = (KeyError, ValueError, TypeError, OverflowError, asyncpg.PostgresError)
_MESSAGE_ERRORS: tuple[type[Exception], ...] = (MessageTooLarge, *_EVENT_ERRORS)

_SELECT_EVENTS = compose_select(
    ["claimed.position::integer - 1", *(f"e.{name}" for name in TrackingEvent._fields)],
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


@dataclass(slots=True)
class Unsendable:
    """The events of a batch that cannot be sent, and the reason."""

    event_ids: list[UUID]
    error: str


class _Found(NamedTuple):
    """An event and its position in the batch row."""

    position: int
    event: TrackingEvent


async def send_batch(
    connection: Connection, publisher: Publisher, batch: BatchRow, *, reason: str, only_to: str | None = None
) -> Unsendable | None:
    """Publish a batch with the present names to all consumers, or to the queue `only_to`.

    Returns the events that cannot be sent; all others were confirmed. Raises Unavailable if the broker did not confirm
    each message (sent again, the batch is applied once all the same), and postgres.TRANSIENT_ERRORS. Must be called
    inside a transaction, because it changes settings of the planner.
    """
    sending = _Sending(connection, publisher, batch, reason, only_to)
    await sending.run()
    if sending.unsendable is not None:
        return sending.unsendable
    metrics.batches_republished.labels(reason).inc()
    return None


@dataclass(slots=True)
class _Sending:
    """One batch that is being sent."""

    connection: Connection
    publisher: Publisher
    batch: BatchRow
    reason: str
    only_to: str | None
    unsendable: Unsendable | None = None
    systems: dict[UUID, SystemContext] = field(default_factory=dict)

    async def run(self) -> None:
        """Read the events page by page and send them in messages of limited size."""
        total = len(self.batch.event_ids)
        first = size_bytes = 0
        waiting: list[_Found] = []
        for start in range(0, total, _PAGE_EVENTS):
            page = await self._read(start)
            if page is None:
                # no part may span events that are there and cannot be read
                await self._send(waiting, first, start)
                first, size_bytes, waiting = start + _PAGE_EVENTS, 0, []
                continue
            for found in page:
                event_bytes = events_tracked.count_bytes(found.event)
                if waiting and size_bytes + event_bytes > MAX_MESSAGE_BYTES:
                    await self._send(waiting, first, found.position)
                    first, size_bytes, waiting = found.position, 0, []
                waiting.append(found)
                size_bytes += event_bytes
        if first == 0 and not waiting and self.unsendable is None:
            self._give_up(self.batch.event_ids, EVENTS_ARE_GONE)
        await self._send(waiting, first, total)

    async def _read(self, start: int) -> list[_Found] | None:
        """Return the events of one page that are still stored; None if they cannot be read."""
        page = slice(start, start + _PAGE_EVENTS)
        system_ids, event_ids = self.batch.partner_system_ids[page], self.batch.event_ids[page]
        try:
            # a transaction within that of the caller, which a failure leaves usable
            async with self.connection.transaction():
                await self.connection.execute(USE_INDEX_LOOKUPS)
                rows = await self.connection.fetch(_SELECT_EVENTS, system_ids, event_ids)
                if not self.systems:
                    every_id = list(set(self.batch.partner_system_ids))
                    systems = await self.connection.fetch(_SELECT_SYSTEMS, every_id)
                    self.systems = {row["partner_system_id"]: SystemContext(**dict(row)) for row in systems}
        except postgres.TRANSIENT_ERRORS:
            raise
        except _EVENT_ERRORS as error:
            self._give_up(event_ids, f"{len(event_ids)} events cannot be read: {postgres.describe_error(error)}")
            return None
        return [_Found(start + position, TrackingEvent._make(values)) for position, *values in rows]

    async def _send(self, found: Sequence[_Found], first: int, past: int) -> None:
        """Send the events, in halves if they are too large for a message; the part is from `first` to before `past`."""
        if not found:
            return
        total = len(self.batch.event_ids)
        part = None if len(found) == total else BatchPart(first, past, total, [position for position, _ in found])
        events = [event for _, event in found]
        try:
            systems = [self.systems[system_id] for system_id in {event.partner_system_id for event in events}]
            body = events_tracked.encode(self.batch.id, self.batch.created_at, systems, events, part)
            kind = events_tracked.MESSAGE_TYPE if part is None else events_tracked.PART_MESSAGE_TYPE
            await publish_message(
                self.publisher, body, self.batch.id, reason=self.reason, only_to=self.only_to, message_type=kind
            )
        except _MESSAGE_ERRORS as error:
            if len(found) == 1:
                self._give_up([events[0].id], f"event {events[0].id}: {_describe(error)}")
                return
            middle = len(found) // 2
            border = found[middle].position
            await self._send(found[:middle], first, border)
            await self._send(found[middle:], border, past)

    def _give_up(self, event_ids: Sequence[UUID], error: str) -> None:
        if self.unsendable is None:
            self.unsendable = Unsendable([], error)
        self.unsendable.event_ids.extend(event_ids)


async def publish_message(
    publisher: Publisher,
    body: bytes,
    message_id: UUID | str,
    *,
    reason: str,
    only_to: str | None = None,
    message_type: str = events_tracked.MESSAGE_TYPE,
) -> None:
    """Publish to all consumers, or to the queue `only_to`. Raises Unavailable, as `Publisher.publish` does."""
    route: Mapping[str, str] = {"exchange": "", "routing_key": only_to} if only_to else {}
    try:
        await publisher.publish(
            body,
            message_id=str(message_id),
            message_type=message_type,
            content_type=events_tracked.CONTENT_TYPE,
            headers=telemetry.inject_trace_context(),
            **route,
        )
    except Unavailable as error:
        metrics.publish_failures.labels(error.code if isinstance(error, MessageTooLarge) else reason).inc()
        raise


def _describe(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"system {error.args[0]} is not registered"
    return postgres.describe_error(error)
