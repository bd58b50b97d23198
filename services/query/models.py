"""Responses of the routes as models for the OpenAPI document; the responses themselves are written without models."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue

from tracking.http.json_api import JsonModel, ValidationFault

_META: dict[str, JsonValue] = {
    "asOf": "2025-12-24T10:30:01.123456Z",
    "lagSeconds": 0.512,
    "source": "rollup+raw",
    "cached": False,
    "rawSince": None,
    "countsSince": None,
}
_EVENT: dict[str, JsonValue] = {
    "eventId": "019b4fe1-2e40-7a31-9c1e-6c1f5d3a9b10",
    "id": "019b4fe1-2e40-7a31-9c1e-6c1f5d3a9b10",
    "partnerId": "123e4567-e89b-12d3-a456-426614174000",
    "partnerName": "Acme Corp",
    "partnerSystemId": "223e4567-e89b-12d3-a456-426614174001",
    "systemName": "Acme Website",
    "eventName": "page_view",
    "eventTimestamp": "2025-12-24T10:30:00Z",
    "originalTimestamp": "2025-12-24T10:30:00Z",
    "receivedAt": "2025-12-24T10:30:00.123000Z",
    "processedAt": "2025-12-24T10:30:00.210345Z",
    "userId": "user_12345",
    "anonymousId": "anon_67890",
    "messageId": None,
    "eventProperties": {"page": "/home", "referrer": "google.com"},
    "isValid": True,
    "validationErrors": None,
    "schemaVersion": None,
    "clockAdjusted": False,
    "correlationId": "0f8fad5bd9cb469fa165708677289590",
    "eventType": "track",
    "context": {"ip": "203.0.113.0", "userAgent": "Mozilla/5.0"},
    "isBot": False,
}
_LIST: dict[str, JsonValue] = {
    "events": [_EVENT],
    "totalCount": 15420,
    "pageNumber": 1,
    "pageSize": 100,
    "nextCursor": "AAZGrs...",
    "meta": _META,
}
_STATISTICS: dict[str, JsonValue] = {
    "partnerSystemId": "223e4567-e89b-12d3-a456-426614174001",
    "totalEvents": 15420,
    "validEvents": 15320,
    "invalidEvents": 100,
    "eventCounts": {"page_view": 10000, "button_click": 5000, "form_submit": 420},
    "startDate": "2025-12-01T00:00:00Z",
    "endDate": "2025-12-31T23:59:59.999999Z",
    "meta": _META,
}
_LEFT_OUT: dict[str, JsonValue] = {
    "eventCounts": {"page_view": 10000},
    "other": 5420,
    "otherNames": 2,
    "nextCursor": "AAAAAAAAJxAA...",
}


class Meta(JsonModel):
    """How fresh the answer is, and from when on events and counts are kept."""

    as_of: Annotated[
        datetime | None, Field(description="Everything stored before it is in the answer; null when not known.")
    ]
    lag_seconds: Annotated[float | None, Field(description="Its age.")]
    source: Literal["raw", "rollup+raw"]
    cached: bool
    raw_since: Annotated[
        datetime | None,
        Field(description="There are no events from before it; null where retention has not dropped any."),
    ]
    counts_since: Annotated[
        datetime | None,
        Field(description="There are no counts from before it. From then until rawSince, whole hours are counted."),
    ]


class Event(JsonModel):
    """An event as analytics see it; partner and system under the names they had."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EVENT]})

    event_id: UUID
    id: Annotated[UUID, Field(description="The same as eventId.")]
    partner_id: UUID
    partner_name: str
    partner_system_id: UUID
    system_name: str
    event_name: str
    event_timestamp: Annotated[datetime, Field(description="When it happened, corrected for the client's clock.")]
    original_timestamp: Annotated[datetime | None, Field(description="What the client said.")]
    received_at: datetime
    processed_at: datetime
    user_id: str | None
    anonymous_id: str | None
    message_id: Annotated[str | None, Field(description="The client's own id of the event.")]
    event_properties: dict[str, Any]
    is_valid: bool
    validation_errors: list[ValidationFault] | None
    schema_version: int | None
    clock_adjusted: bool
    correlation_id: str
    event_type: Literal["track", "identify", "page", "screen", "group", "alias"]
    context: Annotated[dict[str, Any] | None, Field(description="What the SDK said of its surroundings.")]
    is_bot: Annotated[
        bool, Field(description="Left out of lists and statistics unless they are asked to include bots.")
    ]


class EventList(JsonModel):
    """A page, newest first, or oldest first if that is asked for."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LIST]})

    events: list[Event]
    total_count: Annotated[int, Field(description="Of all pages.")]
    page_number: int
    page_size: int
    next_cursor: Annotated[str | None, Field(description="For the next page; null on the last.")]
    meta: Meta


class Statistics(JsonModel):
    """Counts of a range, exact to the microsecond."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [_STATISTICS, _STATISTICS | {"uniqueActors": 3120}, _STATISTICS | _LEFT_OUT]}
    )

    partner_system_id: UUID
    total_events: int
    valid_events: int
    invalid_events: int
    event_counts: Annotated[
        dict[str, int], Field(description="By event name, the most frequent first; as many names as pageSize says.")
    ]
    other: Annotated[
        int | None, Field(description="Events of the names that are not in eventCounts; missing if all names are.")
    ] = None
    other_names: Annotated[int | None, Field(description="How many names these are; missing with other.")] = None
    next_cursor: Annotated[
        str | None, Field(description="For the names that follow; null if none do, missing with other.")
    ] = None
    unique_actors: Annotated[int | None, Field(description="Only where uniqueActors=true asks for it.")] = None
    start_date: Annotated[datetime, Field(description="First moment of the range.")]
    end_date: Annotated[datetime, Field(description="Last moment of the range, which belongs to it.")]
    meta: Meta
