"""The filters of a list of events, and the conditions that find its events in `read.tracking_events_read_model`.

A statement with these conditions binds `partner_system_id`. Which conditions it has depends on the filters that are
given. It is planned with its values (`plan_cache_mode`, a setting of query's role), so the index is chosen by what is
known of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from uuid import UUID

from services.query.cursor import PagePosition
from services.query.sql import Fragment, match_all
from services.query.time_range import TimeRange


@dataclass(frozen=True, slots=True)
class EventFilters:
    """The value that events must have, by filter; None = any."""

    event_name: str | None = None
    is_valid: bool | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    correlation_id: str | None = None
    event_type: str | None = None
    is_bot: bool | None = None
    message_id: str | None = None

    @property
    def needs_raw_events(self) -> bool:
        """Whether only the events themselves can be counted; the rollups know names, validity and bots."""
        narrow = (self.user_id, self.anonymous_id, self.correlation_id, self.event_type, self.message_id)
        return any(value is not None for value in narrow)

    @property
    def needs_whole_range(self) -> bool:
        """Whether every event of the range (of the name, if one is given) must be read to count those asked for."""
        indexed = (self.user_id, self.anonymous_id, self.correlation_id, self.message_id)
        return self.event_type is not None and all(value is None for value in indexed)


_IS_EARLIER = Fragment("(event_timestamp, id) < (:last_at, :last_id)")
_IS_LATER = Fragment("(event_timestamp, id) > (:last_at, :last_id)")
_NEWEST_FIRST = Fragment("event_timestamp desc, id desc")
_OLDEST_FIRST = Fragment("event_timestamp, id")
EVENT_NAME = Fragment("event_name")
USER_ID = Fragment("user_id")
ANONYMOUS_ID = Fragment("anonymous_id")
CORRELATION_ID = Fragment("correlation_id")

# the texts that have an index (docs/decisions/0012)
_INDEXED_TEXTS = {
    "event_name": EVENT_NAME,
    "user_id": USER_ID,
    "anonymous_id": ANONYMOUS_ID,
    "correlation_id": CORRELATION_ID,
}
# what each filter compares its value with
_EXPRESSIONS = _INDEXED_TEXTS | {
    "is_valid": Fragment("is_valid"),
    "event_type": Fragment("coalesce(event_type, 'track')"),
    "is_bot": Fragment("is_bot"),
    "message_id": Fragment("message_id"),
}


def match_system() -> Fragment:
    """Events of the partner system, by the primary key or another index that begins with it."""
    return Fragment("partner_system_id = :partner_system_id")


def match_system_without_index() -> Fragment:
    """Events of the partner system, beside a text that shall be found by the index on its key.

    With a text the planner must not use the primary key: for a month without statistics it takes a system to be as
    selective as a text, and could read all of its rows. No index supports the comparison as text.
    """
    return Fragment("partner_system_id::text = :partner_system_id::uuid::text")


def match_system_for(filters: EventFilters) -> Fragment:
    """Events of the partner system, for a statement whose filters have no correlation id.

    A filter on a name together with isValid=false or isBot=true leaves the system comparable, so that the small index
    of these events can be used. With any other filter on a text, only the index on its key is left.
    """
    has_id = filters.user_id is not None or filters.anonymous_id is not None
    has_small_index = filters.is_valid is False or filters.is_bot is True
    if has_id or (filters.event_name is not None and not has_small_index):
        return match_system_without_index()
    return match_system()


def match_text(column: Fragment, text: str | Fragment) -> Fragment:
    """Events whose text is this one, by the index on `read.text_key(partner_system_id, text)`.

    The key is a hash that includes the system. The text is compared as well, because hashes can collide.
    """
    return Fragment(
        "read.text_key(partner_system_id, :column) = read.text_key(:partner_system_id, :text) and :column = :text",
        column=column,
        text=text,
    )


def match_id_without_time(event_id: UUID) -> Fragment:
    """Events whose id is this one but for the 48 bits of time it begins with.

    No index supports that. It is compared in each entry of an index that contains ids.
    """
    return Fragment("substring(uuid_send(id) from 7) = :rest_of_id", rest_of_id=event_id.bytes[6:])


def match_range(within: TimeRange) -> Fragment:
    """Events of the range. Partitions outside it are not opened."""
    return Fragment("event_timestamp >= :start and event_timestamp <= :end", start=within.start, end=within.end)


def match_position(position: PagePosition) -> Fragment:
    """Events of the rest of the range behind the position.

    That the events are in the rest follows from the last comparison, but only from the range the planner sees which
    partitions are beyond the position.
    """
    return match_all([match_range(position.get_rest()), compare_position(position)])


def compare_position(position: PagePosition) -> Fragment:
    """Events behind the position, for rows of the range that were found already: there are no partitions to exclude."""
    is_behind = _IS_LATER if position.is_oldest_first else _IS_EARLIER
    return Fragment(":is_behind", is_behind=is_behind, last_at=position.last_at, last_id=position.last_id)


def order_events(position: PagePosition) -> Fragment:
    """The order of events in which the position is."""
    return _OLDEST_FIRST if position.is_oldest_first else _NEWEST_FIRST


def match_filters(filters: EventFilters) -> Iterator[Fragment]:
    """A condition for each filter that is given, texts by their indexes."""
    for name, value in _list_given(filters):
        if name in _INDEXED_TEXTS:
            yield match_text(_INDEXED_TEXTS[name], str(value))
        else:
            yield _equal(name, value)


def compare_filters(filters: EventFilters) -> Iterator[Fragment]:
    """A condition for each filter that is given, for rows that were found already: no index is needed."""
    for name, value in _list_given(filters):
        yield _equal(name, value)


def _equal(name: str, value: object) -> Fragment:
    return Fragment(":expression = :value", expression=_EXPRESSIONS[name], value=value)


def _list_given(filters: EventFilters) -> Iterator[tuple[str, str | bool]]:
    for field in fields(filters):
        value = getattr(filters, field.name)
        if value is not None:
            yield field.name, value
