"""`events_tracked.v1`: one committed batch of events, as gateway and relay publish it and the workers read it.

The schema stands beside this file (events_tracked.v1.schema.json), good and bad examples in `examples/`. A new field is
optional; anything else would be `v2` beside `v1`. Properties travel as the JSON text they are stored as, so that
neither side builds objects only to take them apart again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

import orjson

from tracking.domain.tracking_event import TrackingEvent

MESSAGE_TYPE = "events_tracked.v1"
CONTENT_TYPE = "application/json"


class UnreadableMessage(ValueError):
    """The bytes are not an events_tracked.v1; no retry will change that."""


@dataclass(frozen=True, slots=True)
class SystemContext:
    """A system's names at the time of its events."""

    partner_system_id: UUID
    system_name: str
    partner_id: UUID
    partner_name: str


class EventFields(TypedDict, total=False):
    """An event in the message; the first seven are always there, what is left out is null or false."""

    system: int
    id: str
    eventName: str
    eventTimestamp: str
    receivedAt: str
    eventPropertiesJson: str
    correlationId: str
    isValid: bool
    originalTimestamp: str
    userId: str
    anonymousId: str
    messageId: str
    schemaVersion: int
    validationErrorsJson: str
    clockAdjusted: bool


@dataclass(frozen=True, slots=True)
class EventsTracked:
    """A decoded message: `events[n]["system"]` is an index into `systems` (each with the keys of the schema)."""

    batch_id: UUID
    systems: Sequence[Mapping[str, str]]
    events: Sequence[EventFields]


def encode(
    batch_id: UUID, created_at: datetime, systems: Iterable[SystemContext], events: Iterable[TrackingEvent]
) -> bytes:
    """The message's body. Every event's system must be among `systems`, or KeyError."""
    contexts = list(systems)
    index = {context.partner_system_id: n for n, context in enumerate(contexts)}
    return orjson.dumps(
        {
            "batchId": batch_id,
            "createdAt": created_at,
            "systems": [
                {
                    "partnerSystemId": context.partner_system_id,
                    "systemName": context.system_name,
                    "partnerId": context.partner_id,
                    "partnerName": context.partner_name,
                }
                for context in contexts
            ],
            "events": [_fields(event, index[event.partner_system_id]) for event in events],
        },
        default=str,  # the UUIDs of asyncpg are a subclass that orjson does not take
    )


def _fields(event: TrackingEvent, system: int) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "system": system,
        "id": event.id,
        "eventName": event.event_name,
        "eventTimestamp": event.event_timestamp,
        "receivedAt": event.received_at,
        "eventPropertiesJson": event.event_properties.decode(),
        "correlationId": event.correlation_id,
        "isValid": event.is_valid,
    }
    if event.user_id is not None:
        fields["userId"] = event.user_id
    if event.anonymous_id is not None:
        fields["anonymousId"] = event.anonymous_id
    if event.original_timestamp is not None:
        fields["originalTimestamp"] = event.original_timestamp
    if event.message_id is not None:
        fields["messageId"] = event.message_id
    if event.schema_version is not None:
        fields["schemaVersion"] = event.schema_version
    if event.validation_errors is not None:
        fields["validationErrorsJson"] = event.validation_errors.decode()
    if event.clock_adjusted:
        fields["clockAdjusted"] = True
    return fields


_REQUIRED = frozenset(
    {
        "system",
        "id",
        "eventName",
        "eventTimestamp",
        "receivedAt",
        "eventPropertiesJson",
        "correlationId",
        "isValid",
    }
)


def decode(body: bytes) -> EventsTracked:
    """Read a message. Raises UnreadableMessage if it lacks what every consumer relies on.

    Values inside an event are checked where they are used: by PostgreSQL, which refuses what is no timestamp or UUID.
    """
    try:
        raw = orjson.loads(body)
        message = EventsTracked(UUID(raw["batchId"]), raw["systems"], raw["events"])
        known = len(message.systems)
        if not message.events:
            raise UnreadableMessage("a batch without events")
        for system in message.systems:
            system["partnerSystemId"], system["systemName"], system["partnerId"], system["partnerName"]
        for event in message.events:
            if not event.keys() >= _REQUIRED:
                raise UnreadableMessage(f"an event lacks {sorted(_REQUIRED - event.keys())}")
            if not 0 <= event["system"] < known:
                raise UnreadableMessage(f"an event names system {event['system']} of {known}")
    except UnreadableMessage:
        raise
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableMessage(f"not an {MESSAGE_TYPE}: {error!r}") from error
    return message
