"""`events_tracked.v1`: one committed batch of events, as gateway and relay publish it and the workers read it.

The schema stands beside this file (events_tracked.v1.schema.json), good and bad examples in `examples/`. A new column
is optional; anything else would be `v2` beside `v1`. Events travel by column and their properties as the JSON text they
are stored as: half the bytes, and neither side builds objects only to take them apart (docs/decisions/0002).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import orjson

from tracking.domain.tracking_event import TrackingEvent

MESSAGE_TYPE = "events_tracked.v1"
CONTENT_TYPE = "application/json"


class UnreadableMessage(ValueError):
    """The bytes are not an events_tracked.v1; no retry will change that."""


class HasSystemContext(Protocol):
    """Whoever has a system's names and ids: a SystemContext, or the cache entry of a key."""

    @property
    def partner_system_id(self) -> UUID: ...

    @property
    def system_name(self) -> str: ...

    @property
    def partner_id(self) -> UUID: ...

    @property
    def partner_name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class SystemContext:
    """A system's names at the time of its events."""

    partner_system_id: UUID
    system_name: str
    partner_id: UUID
    partner_name: str


@dataclass(frozen=True, slots=True)
class EventsTracked:
    """A decoded message: lists of equal length, the n-th values being those of the n-th event.

    `system` counts into `systems`. Timestamps are ISO 8601 in UTC, ids are UUIDs as text.
    """

    batch_id: UUID
    systems: Sequence[SystemContext]
    system_indexes: Sequence[int]
    ids: Sequence[str]
    event_names: Sequence[str]
    event_timestamps: Sequence[str]
    received_ats: Sequence[str]
    event_properties_json: Sequence[str]
    is_valid: Sequence[bool]
    correlation_ids: Sequence[str]
    original_timestamps: Sequence[str | None]
    user_ids: Sequence[str | None]
    anonymous_ids: Sequence[str | None]
    message_ids: Sequence[str | None]
    schema_version: Sequence[int | None]
    validation_errors_json: Sequence[str | None]
    clock_adjusted: Sequence[bool]
    event_types: Sequence[str | None]
    context_json: Sequence[str | None]
    is_bot: Sequence[bool]

    @property
    def event_count(self) -> int:
        """How many events the batch has; at least one."""
        return len(self.ids)


def encode(
    batch_id: UUID, created_at: datetime, systems: Iterable[HasSystemContext], events: Sequence[TrackingEvent]
) -> bytes:
    """The message's body. Every event's system must be among `systems`, or KeyError; no events is a ValueError."""
    contexts = list(systems)
    if not events:
        raise ValueError("a batch without events")
    by_name: dict[str, Sequence[Any]] = dict(zip(TrackingEvent._fields, zip(*events, strict=True), strict=True))
    if len(contexts) == 1:
        numbers = [0] * len(events)
    else:
        index = {context.partner_system_id: n for n, context in enumerate(contexts)}
        numbers = [index[system_id] for system_id in by_name["partner_system_id"]]
    columns: dict[str, Sequence[Any]] = {
        "system": numbers,
        "id": by_name["id"],
        "eventName": by_name["event_name"],
        "eventTimestamp": by_name["event_timestamp"],
        "receivedAt": by_name["received_at"],
        "eventPropertiesJson": [text.decode() for text in by_name["event_properties"]],
        "isValid": by_name["is_valid"],
        "correlationId": by_name["correlation_id"],
    }
    for name, field in _OPTIONAL.items():
        values = by_name[field]
        # a column in which nothing stands is left out
        if values.count(None) + values.count(False) < len(values):
            columns[name] = values
    for name in ("validationErrorsJson", "contextJson"):
        if name in columns:
            columns[name] = [text and text.decode() for text in columns[name]]
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
            "events": columns,
        },
        default=str,  # the UUIDs of asyncpg are a subclass that orjson does not take
    )


# column in the message: field of TrackingEvent
_OPTIONAL = {
    "originalTimestamp": "original_timestamp",
    "userId": "user_id",
    "anonymousId": "anonymous_id",
    "messageId": "message_id",
    "schemaVersion": "schema_version",
    "validationErrorsJson": "validation_errors",
    "clockAdjusted": "clock_adjusted",
    "eventType": "event_type",
    "contextJson": "context",
    "isBot": "is_bot",
}


def decode(body: bytes) -> EventsTracked:
    """Read a message. Raises UnreadableMessage if it lacks what every consumer relies on.

    Single values are checked where they are used: by PostgreSQL, which refuses what is no timestamp or UUID.
    """
    try:
        return _decode(orjson.loads(body))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableMessage(f"not an {MESSAGE_TYPE}: {error!r}") from error


def _decode(raw: Any) -> EventsTracked:
    columns = raw["events"]
    count = len(columns["id"])
    systems = [
        SystemContext(
            UUID(system["partnerSystemId"]), system["systemName"], UUID(system["partnerId"]), system["partnerName"]
        )
        for system in raw["systems"]
    ]

    def column(name: str) -> list[Any]:
        values = columns[name]
        if type(values) is not list or len(values) != count:
            raise ValueError(f"column {name} is not a list of {count}")
        return values

    def optional(name: str, missing: Any = None) -> list[Any]:
        return column(name) if name in columns else [missing] * count

    numbers = column("system")
    if not count or min(numbers) < 0 or max(numbers) >= len(systems):
        raise ValueError("no events, or one of a system that is not there")
    return EventsTracked(
        batch_id=UUID(raw["batchId"]),
        systems=systems,
        system_indexes=numbers,
        ids=column("id"),
        event_names=column("eventName"),
        event_timestamps=column("eventTimestamp"),
        received_ats=column("receivedAt"),
        event_properties_json=column("eventPropertiesJson"),
        is_valid=column("isValid"),
        correlation_ids=column("correlationId"),
        original_timestamps=optional("originalTimestamp"),
        user_ids=optional("userId"),
        anonymous_ids=optional("anonymousId"),
        message_ids=optional("messageId"),
        schema_version=optional("schemaVersion"),
        validation_errors_json=optional("validationErrorsJson"),
        clock_adjusted=optional("clockAdjusted", False),
        event_types=optional("eventType"),
        context_json=optional("contextJson"),
        is_bot=optional("isBot", False),
    )
