"""`events_tracked.v1`: one committed batch of events, as gateway and relay publish it and the workers read it.

The schema stands beside this file (events_tracked.v1.schema.json), good and bad examples in `examples/`. A new column
is optional; anything else would be `v2` beside `v1`. Events travel by column and their properties as the JSON text they
are stored as: half the bytes, and neither side builds objects only to take them apart (docs/decisions/0002).

A batch that is too large for one message travels as several messages `events_tracked_part.v1`, each with some of its
events and their positions in the batch row. A reader that knows only `events_tracked.v1` finds such a message
unreadable, so it cannot take a part for the whole batch (docs/decisions/0015).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol
from uuid import UUID

import orjson

from tracking.domain.event_fields import list_fields
from tracking.domain.tracking_event import TrackingEvent

MESSAGE_TYPE = "events_tracked.v1"
PART_MESSAGE_TYPE = "events_tracked_part.v1"
CONTENT_TYPE = "application/json"
# The bytes of an event in a message without its texts: ids, times, numbers, separators (tests/unit/test_event_size.py).
_ENVELOPE_BYTES = 240


class UnreadableMessage(ValueError):
    """The bytes are not an events_tracked.v1 message. No retry will change that."""


class HasSystemContext(Protocol):
    """An object with the names and ids of a partner system: a SystemContext, or the cache entry of an API key."""

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
    """The names of a partner system at the time of its events."""

    partner_system_id: UUID
    system_name: str
    partner_id: UUID
    partner_name: str


@dataclass(frozen=True, slots=True)
class BatchPart:
    """The part of a batch that a message contains: the events at the positions from `first` to before `past`, of `of`.

    `positions` are those of the message's events in the batch row. An event that retention has dropped leaves a gap.
    """

    first: int
    past: int
    of: int
    positions: Sequence[int]


@dataclass(frozen=True, slots=True)
class EventsTracked:
    """A decoded message: lists of equal length, the n-th values being those of the n-th event.

    `system_indexes` counts into `systems`. Timestamps are ISO 8601 in UTC, ids are UUIDs as text.
    """

    batch_id: UUID
    systems: Sequence[SystemContext]
    system_indexes: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    """By the name of the field, those that the message lacked too."""
    part: BatchPart | None = None
    """None if the message contains the whole batch."""

    def select(self, indexes: Sequence[int]) -> "EventsTracked":
        """Return the same message with only the events at these indexes of its lists."""
        columns = {name: [values[n] for n in indexes] for name, values in self.columns.items()}
        return replace(self, system_indexes=[self.system_indexes[n] for n in indexes], columns=columns)

    @property
    def event_count(self) -> int:
        """How many events the message has; at least one."""
        return len(self.system_indexes)

    @property
    def ids(self) -> Sequence[str]:
        """The ids of the events."""
        return self.columns["id"]

    @property
    def event_names(self) -> Sequence[str]:
        """The names of the events, as the sender gave them."""
        return self.columns["event_name"]

    @property
    def event_timestamps(self) -> Sequence[str]:
        """The timestamps of the events, corrected for clock skew."""
        return self.columns["event_timestamp"]

    @property
    def received_at(self) -> Sequence[str]:
        """When each event was received, by the clock of the gateway."""
        return self.columns["received_at"]

    @property
    def user_ids(self) -> Sequence[str | None]:
        """The user ids of the events; None for an event that has only an anonymous id."""
        return self.columns["user_id"]

    @property
    def anonymous_ids(self) -> Sequence[str | None]:
        """The anonymous ids of the events; None for an event that has only a user id."""
        return self.columns["anonymous_id"]

    @property
    def event_properties_json(self) -> Sequence[str]:
        """The properties of the events, each a JSON object as text."""
        return self.columns["event_properties"]

    @property
    def is_valid(self) -> Sequence[bool]:
        """Whether each event is valid: False for events with validation errors."""
        return self.columns["is_valid"]

    @property
    def event_types(self) -> Sequence[str | None]:
        """The types of the events, of EVENT_TYPES; None stands for track."""
        return self.columns["event_type"]

    @property
    def is_bot(self) -> Sequence[bool]:
        """Whether each event was sent by a crawler."""
        return self.columns["is_bot"]


# required columns before optional ones, as the key order of the message has always been
_FIELDS = sorted(list_fields("message"), key=attrgetter("is_optional"))
# what `encode` asks of each for every message: field, key, whether it is JSON, whether it may be left out
_COLUMNS = [(field.name, field.message_name, field.postgres_type == "jsonb", field.is_optional) for field in _FIELDS]
# what `decode` asks of each: field, key, the value if it is missing
_REQUIRED = [(field.name, field.message_name) for field in _FIELDS if not field.is_optional]
_OPTIONAL = [(field.name, field.message_name, field.missing_value) for field in _FIELDS if field.is_optional]


def count_bytes(event: TrackingEvent) -> int:
    """Return how many bytes the event takes in a message, or in a row, without the escaping of JSON.

    Escaping makes at most two bytes of each byte of the properties, the context and the validation errors, which are
    JSON texts already, and at most six of each byte of a name or an id.
    """
    user_id, anonymous_id, message_id = event.user_id or "", event.anonymous_id or "", event.message_id or ""
    texts = f"{event.event_name}{user_id}{anonymous_id}{message_id}{event.correlation_id}"
    context, errors = event.context, event.validation_errors
    return (
        _ENVELOPE_BYTES
        + len(event.event_properties)
        + (len(texts) if texts.isascii() else len(texts.encode("utf-8", "surrogatepass")))
        + (0 if context is None else len(context))
        + (0 if errors is None else len(errors))
    )


def encode(
    batch_id: UUID,
    created_at: datetime,
    systems: Iterable[HasSystemContext],
    events: Sequence[TrackingEvent],
    part: BatchPart | None = None,
) -> bytes:
    """Encode a batch, or the events of one part of it, as the body of a message.

    Raises KeyError if an event's system is not among `systems`, and ValueError if there are no events.
    """
    contexts = list(systems)
    if not events:
        raise ValueError("a batch without events")
    by_name: dict[str, Sequence[Any]] = dict(zip(TrackingEvent._fields, zip(*events, strict=True), strict=True))
    if len(contexts) == 1:
        numbers = [0] * len(events)
    else:
        index = {context.partner_system_id: n for n, context in enumerate(contexts)}
        numbers = [index[partner_system_id] for partner_system_id in by_name["partner_system_id"]]
    columns: dict[str, Sequence[Any]] = {"system": numbers}
    for field, name, is_json, is_optional in _COLUMNS:
        values = by_name[field]
        # a column without any value is left out
        if is_optional and values.count(None) + values.count(False) == len(values):
            continue
        columns[name] = [text and text.decode() for text in values] if is_json else values
    return orjson.dumps(
        {
            **({"batchId": batch_id} if part is None else {"part": _to_json(batch_id, part)}),
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


def _to_json(batch_id: UUID, part: BatchPart) -> dict[str, Any]:
    positions = list(part.positions)
    return {"batchId": batch_id, "first": part.first, "past": part.past, "of": part.of, "positions": positions}


def decode(body: bytes) -> EventsTracked:
    """Decode the body of a message, of a whole batch or of a part.

    Raises UnreadableMessage if something that every consumer needs is missing.
    Single values are checked where they are used: PostgreSQL rejects invalid timestamps and UUIDs.
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

    numbers = column("system")
    if not count or min(numbers) < 0 or max(numbers) >= len(systems):
        raise ValueError("no events, or one of a system that is not there")
    by_field = {field: column(name) for field, name in _REQUIRED}
    for field, name, missing in _OPTIONAL:
        by_field[field] = column(name) if name in columns else [missing] * count
    if "part" not in raw:
        return EventsTracked(UUID(raw["batchId"]), systems, numbers, by_field)
    return EventsTracked(UUID(raw["part"]["batchId"]), systems, numbers, by_field, _decode_part(raw["part"], count))


def _decode_part(raw: Any, count: int) -> BatchPart:
    part = BatchPart(raw["first"], raw["past"], raw["of"], raw["positions"])
    if type(part.positions) is not list or len(part.positions) != count:
        raise ValueError(f"the positions are not a list of {count}")
    if any(type(number) is not int for number in (part.first, part.past, part.of, *part.positions)):
        raise ValueError("a position is not a whole number")
    is_within = 0 <= part.first <= part.positions[0] and part.positions[-1] < part.past <= part.of
    if not is_within or part.positions != sorted(set(part.positions)):
        raise ValueError("the positions are not ascending, or not those of the part")
    return part
