"""Events for tests, so that each test names only what it is about."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tracking.domain.tracking_event import TrackingEvent


def an_event(partner_system_id: UUID, event_id: UUID, **changes: Any) -> TrackingEvent:
    """A valid page view of Christmas Eve 2025, with `changes`."""
    at = datetime(2025, 12, 24, 10, 30, tzinfo=UTC)
    event = TrackingEvent(
        partner_system_id=partner_system_id,
        id=event_id,
        event_name="page_view",
        event_timestamp=at,
        original_timestamp=None,
        sent_at=None,
        received_at=at,
        user_id="user_1",
        anonymous_id=None,
        message_id=None,
        event_properties=b"{}",
        schema_version=None,
        is_valid=True,
        validation_errors=None,
        clock_adjusted=False,
        correlation_id="c-1",
    )
    return event._replace(**changes)
