"""Events with identity links, and the projector's own functions that apply them."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.support.events import an_event
from tests.support.stack import Stack
from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import EventsTracked, SystemContext
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import postgres

START = datetime(2026, 3, 1, tzinfo=UTC)
SYSTEM, OTHER = UUID(int=1), UUID(int=2)


def identify(second: int, anonymous_id: str, user_id: str, system: UUID = SYSTEM, **changes: Any) -> TrackingEvent:
    return an_event(
        system,
        uuid4(),
        event_name="identify",
        event_type="identify",
        event_timestamp=START + timedelta(seconds=second),
        anonymous_id=anonymous_id,
        user_id=user_id,
        **changes,
    )


def alias(second: int, previous_id: str, user_id: str, system: UUID = SYSTEM, **changes: Any) -> TrackingEvent:
    properties = f'{{"previousId": "{previous_id}"}}'.encode()
    given = {"event_properties": properties, "anonymous_id": None, "event_type": "alias"} | changes
    at = START + timedelta(seconds=second)
    return an_event(system, uuid4(), event_name="alias", event_timestamp=at, user_id=user_id, **given)


def batch(*events: TrackingEvent) -> EventsTracked:
    """As it comes out of the broker."""
    systems = [
        SystemContext(id_, "Website", UUID(int=9), "Acme") for id_ in {event.partner_system_id for event in events}
    ]
    return events_tracked.decode(events_tracked.encode(uuid4(), START, systems, events))


async def connect(stack: Stack) -> "postgres.Connection":
    connection = await asyncpg.connect(stack.read_url("projector"), server_settings={"timezone": "UTC"})
    await postgres.prepare_connection(connection)
    return connection
