"""A tracking event as it is stored.

Events are append-only: nothing changes one. An event that breaks its schema is marked as invalid and stored anyway.
"""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

MAX_CLIENT_ID_CHARACTERS = 100
EVENT_TYPES = ("track", "identify", "page", "screen", "group", "alias")


class TrackingEvent(NamedTuple):
    """One event in the order of the columns of `write.tracking_events`, so that it is its own COPY record.

    A tuple rather than a dataclass: made tens of thousands of times a second (docs/decisions/0003). JSON stands as
    UTF-8 text in bytes. Build it with values that `decide` has checked; the database repeats the checks that matter.
    """

    partner_system_id: UUID
    id: UUID
    event_name: str
    event_timestamp: datetime
    original_timestamp: datetime | None
    sent_at: datetime | None
    received_at: datetime
    user_id: str | None
    anonymous_id: str | None
    message_id: str | None
    event_properties: bytes
    schema_version: int | None
    is_valid: bool
    validation_errors: bytes | None
    clock_adjusted: bool
    correlation_id: str
    event_type: str | None = None
    """One of EVENT_TYPES; None stands for track, which nearly all are."""
    context: bytes | None = None
    is_bot: bool = False
