"""Query parameters of the routes: the range of time, the filters and the page."""

from dataclasses import asdict, fields, replace
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field, model_validator

from services.query.conditions import EventFilters
from services.query.cursor import (
    DIGEST_BYTES,
    NamePosition,
    PagePosition,
    decode_cursor,
    decode_name_cursor,
    encode_cursor,
    encode_name_cursor,
)
from services.query.time_range import EARLIEST, LATEST, TimeRange, complete_range, parse_last_moment, parse_time
from tracking.domain.errors import Malformed
from tracking.domain.tracking_event import MAX_CLIENT_ID_CHARACTERS
from tracking.http.json_api import JsonModel

MAX_OFFSET = 100_000
DEFAULT_NAMES = 100
_MAX_EXACT_INTEGER = 2**53 - 1  # of JSON's readers (RFC 8259, section 6)
# Their values are in the digest of every cursor, given or not. A filter that was added later is in it only if it is
# given, so that cursors from before it stay valid.
_FIRST_FILTERS = ("event_name", "is_valid", "user_id", "anonymous_id", "correlation_id", "event_type", "is_bot")


def _check_storable(value: Any) -> Any:
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("PostgreSQL holds no U+0000, so no event has it")
    return value


Start = Annotated[
    datetime | None,
    BeforeValidator(parse_time),
    Field(
        description="First moment, included; ISO 8601, UTC unless it says otherwise; a date alone means the beginning "
        "of its day. If missing, 30 days before now, or before endDate if that has passed."
    ),
]
End = Annotated[
    datetime | None,
    BeforeValidator(parse_last_moment),
    Field(
        description="Last moment, included; a date alone means its whole day (UTC). So 2025-12-31 ends with the year, "
        "and 2025-12-31T23:59:59Z leaves out its last second but for that second's first moment. If missing, the end "
        "of this hour tomorrow."
    ),
]


class RangeParameters(JsonModel):
    """Query parameters of an answer about a range; empty ones count as missing."""

    start_date: Start = None
    end_date: End = None

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value != ""} if isinstance(given, dict) else given

    def to_time_range(self, now: datetime) -> TimeRange:
        """The range; a missing border is chosen on a full hour. Raises Malformed if it ends before it starts."""
        within = self._complete_range(now)
        if within.start > within.end:
            fault = {"field": "startDate", "message": "is after endDate"}
            raise Malformed("invalid_parameters", "startDate is after endDate.", [fault])
        return within

    def _complete_range(self, now: datetime) -> TimeRange:
        return complete_range(self.start_date, self.end_date, now)


Text = BeforeValidator(_check_storable)


class StatisticsParameters(RangeParameters):
    """Query parameters of statistics."""

    include_bots: Annotated[bool, Field(description="Count what bots sent too.")] = False
    unique_actors: Annotated[
        bool,
        Field(description="Count actors too: different user ids, and anonymous ids of events without a user id."),
    ] = False
    merge_identities: Annotated[
        bool,
        Field(
            description="With uniqueActors: an anonymous visitor and the user it became, by identify or alias, are one "
            "actor, also in what came before."
        ),
    ] = False

    page_size: Annotated[int, Field(ge=1, le=1000, description="Event names in eventCounts.")] = DEFAULT_NAMES
    cursor: Annotated[
        str | None,
        Field(max_length=2000, description="nextCursor of the answer before, for the event names that follow."),
    ] = None

    def get_position(self, partner_system_id: UUID, now: datetime) -> tuple[TimeRange, NamePosition | None]:
        """The range, and where its page of event names starts. Raises Malformed as in a list of events."""
        if self.cursor is None:
            return self.to_time_range(now), None
        position = decode_name_cursor(self.cursor, self._make_digest(partner_system_id))
        return position.within, position

    def make_next_cursor(self, partner_system_id: UUID, within: TimeRange, last: tuple[str, int]) -> str:
        """Continues after the event name `last`, which has so many events."""
        name, count = last
        return encode_name_cursor(NamePosition(within, count, name), self._make_digest(partner_system_id))

    def _make_digest(self, partner_system_id: UUID) -> bytes:
        asked = ("names", str(partner_system_id), self.start_date, self.end_date, self.include_bots)
        return blake2b(repr(asked).encode(), digest_size=DIGEST_BYTES).digest()

    def should_merge(self) -> bool:
        """Whether actors are merged. Raises Malformed where none are counted."""
        if self.merge_identities and not self.unique_actors:
            raise _reject_merging("goes with uniqueActors=true")
        return self.merge_identities


class ListParameters(RangeParameters):
    """Query parameters of the list of events."""

    page_number: Annotated[
        int, Field(ge=1, le=_MAX_EXACT_INTEGER, description="From 1; only repeated in the answer beside cursor.")
    ] = 1
    page_size: Annotated[int, Field(ge=1, le=1000)] = 100
    order: Annotated[Literal["asc", "desc"], Field(description="Newest first (desc), or oldest first (asc).")] = "desc"
    cursor: Annotated[
        str | None, Field(max_length=200, description="nextCursor of the page before, with the same filters.")
    ] = None
    event_name: Annotated[str | None, Text, Field(max_length=200)] = None
    is_valid: bool | None = None
    user_id: Annotated[str | None, Text, Field(max_length=255)] = None
    anonymous_id: Annotated[str | None, Text, Field(max_length=255)] = None
    correlation_id: Annotated[str | None, Text, Field(max_length=100)] = None
    event_type: Annotated[
        Literal["track", "identify", "page", "screen", "group", "alias"] | None,
        Field(
            description="The kind of SDK call; events of other senders are track. It has no index: without userId, "
            "anonymousId or correlationId, all events of the range (of eventName, if given) are read, up to a limit."
        ),
    ] = None
    is_bot: Annotated[
        bool | None, Field(description="Only events of bots, or only others; it goes before includeBots.")
    ] = None
    include_bots: Annotated[bool, Field(description="Show what bots sent too, as in statistics.")] = False
    message_id: Annotated[
        str | None,
        Text,
        Field(
            max_length=MAX_CLIENT_ID_CHARACTERS,
            description="The sender's own id of the event. Where a date is missing, all time is searched.",
        ),
    ] = None
    merge_identities: Annotated[
        bool,
        Field(
            description="With userId or anonymousId: all events of the actor whose id it is, those of the visitor that "
            "it was and of the user that it became, by identify or alias. An event with a user id is that user's, "
            "whatever its anonymous id."
        ),
    ] = False

    def should_merge(self) -> bool:
        """Whether an actor is asked for. Raises Malformed unless it is clear which."""
        if self.merge_identities and (self.user_id is None) == (self.anonymous_id is None):
            raise _reject_merging("goes with either userId or anonymousId")
        return self.merge_identities

    def _complete_range(self, now: datetime) -> TimeRange:
        if self.message_id is None:
            return super()._complete_range(now)
        return TimeRange(self.start_date or EARLIEST, self.end_date or LATEST)

    def to_filters(self) -> EventFilters:
        """The filters, each from the parameter of its name; without bots unless these are asked for."""
        filters = self._get_given_filters()
        return filters if self.is_bot is not None or self.include_bots else replace(filters, is_bot=False)

    def _get_given_filters(self) -> EventFilters:
        return EventFilters(**{field.name: getattr(self, field.name) for field in fields(EventFilters)})

    def get_offset(self) -> int:
        """Events before the page. Raises Malformed where skipping them would take long."""
        if self.cursor is not None:
            return 0
        offset = (self.page_number - 1) * self.page_size
        if offset > MAX_OFFSET:
            fault = {"field": "pageNumber", "message": f"more than {MAX_OFFSET} events before it; use cursor"}
            raise Malformed("page_too_deep", f"pageNumber: {fault['message']}.", [fault])
        return offset

    def make_next_cursor(self, partner_system_id: UUID, within: TimeRange, last: tuple[datetime, UUID]) -> str:
        """Continues after the event `last`, in this range even if it was chosen and would be another one later."""
        return encode_cursor(PagePosition(within, *last), self._make_digest(partner_system_id))

    def get_position(self, partner_system_id: UUID, now: datetime) -> PagePosition:
        """Where the page starts. Raises Malformed for a cursor that is none, or of another question."""
        is_oldest_first = self.order == "asc"
        if self.cursor is None:
            return PagePosition.at_start(self.to_time_range(now), is_oldest_first=is_oldest_first)
        return decode_cursor(self.cursor, self._make_digest(partner_system_id), is_oldest_first=is_oldest_first)

    def _make_digest(self, partner_system_id: UUID) -> bytes:
        """Of all that must stay the same from page to page; clients hold cursors, so it must not change either."""
        filters = asdict(self._get_given_filters())
        asked: list[object] = [str(partner_system_id), self.start_date, self.end_date]
        asked += [filters.pop(name) for name in _FIRST_FILTERS]
        if self.merge_identities:
            asked.append("merged")
        if self.include_bots:
            asked.append("bots")
        if self.order == "asc":
            asked.append("asc")
        asked += [(name, value) for name, value in filters.items() if value is not None]
        return blake2b(repr(tuple(asked)).encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _reject_merging(message: str) -> Malformed:
    fault = {"field": "mergeIdentities", "message": message}
    return Malformed("invalid_parameters", f"mergeIdentities {message}.", [fault])
