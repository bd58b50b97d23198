"""A tracking event as it is stored.

Events are append-only: nothing changes one. An event that breaks its schema is marked as invalid and stored anyway.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, NamedTuple
from uuid import UUID

MAX_CLIENT_ID_CHARACTERS = 100
EVENT_TYPES = ("track", "identify", "page", "screen", "group", "alias")

PostgresType = Literal["uuid", "text", "timestamptz", "jsonb", "integer", "boolean"]
Place = Literal["write table", "message", "read table", "response"]
EVERYWHERE: frozenset[Place] = frozenset({"write table", "message", "read table", "response"})


@dataclass(frozen=True, slots=True)
class Column:
    """Annotation of a field of TrackingEvent: its type in both tables, and where the field occurs."""

    postgres_type: PostgresType
    places: frozenset[Place] = EVERYWHERE
    is_optional: bool = False
    """A message without it is complete: nothing stands in it then, or false."""


class TrackingEvent(NamedTuple):
    """One event, and the declaration of its fields: write table, message, read table and response follow it.

    `tracking.domain.event_fields` lists them. A new field is optional. The order is that of the columns in the message
    and in COPY, where neighbours with equal values are encoded once.

    A tuple rather than a dataclass, because it is made tens of thousands of times a second and is its own COPY record
    (docs/decisions/0003). JSON stands as UTF-8 text in bytes. Build it with values that `decide` has checked; the
    database repeats the checks that matter.
    """

    # in a message it is one of `systems`
    partner_system_id: Annotated[UUID, Column("uuid", EVERYWHERE - {"message"})]
    id: Annotated[UUID, Column("uuid")]
    event_name: Annotated[str, Column("text")]
    event_timestamp: Annotated[datetime, Column("timestamptz")]
    original_timestamp: Annotated[datetime | None, Column("timestamptz", is_optional=True)]
    sent_at: Annotated[datetime | None, Column("timestamptz", frozenset({"write table"}), is_optional=True)]
    received_at: Annotated[datetime, Column("timestamptz")]
    user_id: Annotated[str | None, Column("text", is_optional=True)]
    anonymous_id: Annotated[str | None, Column("text", is_optional=True)]
    message_id: Annotated[str | None, Column("text", is_optional=True)]
    event_properties: Annotated[bytes, Column("jsonb")]
    schema_version: Annotated[int | None, Column("integer", is_optional=True)]
    is_valid: Annotated[bool, Column("boolean")]
    validation_errors: Annotated[bytes | None, Column("jsonb", is_optional=True)]
    clock_adjusted: Annotated[bool, Column("boolean", is_optional=True)]
    correlation_id: Annotated[str, Column("text")]
    # one of EVENT_TYPES; None stands for track, which nearly all are
    event_type: Annotated[str | None, Column("text", is_optional=True)] = None
    context: Annotated[bytes | None, Column("jsonb", is_optional=True)] = None
    is_bot: Annotated[bool, Column("boolean", is_optional=True)] = False
