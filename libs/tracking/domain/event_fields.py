"""The ordered list of an event's fields, from which all code that stores, sends or shows events takes them.

The fields of the event itself are declared in `TrackingEvent`, one line each. The read model has four more, which come
from the partner system or are added by the projector.
"""

from dataclasses import dataclass

from tracking.domain.tracking_event import Column, Place, PostgresType, TrackingEvent


@dataclass(frozen=True, slots=True)
class EventField:
    """A field of an event: a column of that name in the tables, and an attribute of TrackingEvent if it has one."""

    name: str
    postgres_type: PostgresType
    places: frozenset[Place]
    is_optional: bool = False

    @property
    def json_name(self) -> str:
        """The field's key in a response, in camel case."""
        first, *others = self.name.split("_")
        return first + "".join(word.capitalize() for word in others)

    @property
    def message_name(self) -> str:
        """The field's key in a message. A JSON value is sent as text there, and its key says so."""
        return f"{self.json_name}Json" if self.postgres_type == "jsonb" else self.json_name

    @property
    def missing_value(self) -> bool | None:
        """The value of an event whose message lacks this optional field."""
        return False if self.postgres_type == "boolean" else None


def _read_declaration(name: str) -> EventField:
    column = TrackingEvent.__annotations__[name].__metadata__[0]
    if not isinstance(column, Column):
        raise TypeError(f"TrackingEvent.{name} does not say how it is stored")
    return EventField(name, column.postgres_type, column.places, column.is_optional)


_READ_MODEL_ONLY: frozenset[Place] = frozenset({"read table", "response"})

EVENT_FIELDS: tuple[EventField, ...] = (
    *map(_read_declaration, TrackingEvent._fields),
    EventField("partner_id", "uuid", _READ_MODEL_ONLY),
    EventField("partner_name", "text", _READ_MODEL_ONLY),
    EventField("system_name", "text", _READ_MODEL_ONLY),
    EventField("processed_at", "timestamptz", _READ_MODEL_ONLY),
)


def list_fields(place: Place) -> tuple[EventField, ...]:
    """The fields that occur there, in their order."""
    return tuple(field for field in EVENT_FIELDS if place in field.places)
