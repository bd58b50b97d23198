"""Requests and responses of the gateway as models for its OpenAPI document; the hot path itself builds no models."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue

from tracking.http.json_api import FieldFault, JsonModel, ValidationFault

_EVENT: dict[str, JsonValue] = {
    "apiKey": "sk_0123456789abcdefghijABCDEFGHIJ01",
    "eventName": "page_view",
    "eventTimestamp": "2025-12-24T10:30:00Z",
    "userId": "user_12345",
    "anonymousId": "anon_67890",
    "eventProperties": {"page": "/home", "referrer": "google.com"},
}
DryRunMark = Annotated[bool | None, Field(description="true if it was a dry run: nothing is stored; else left out.")]
EventType = Literal["track", "identify", "page", "screen", "group", "alias"]
_RECEIVED_AT = "2025-12-24T10:30:00.123Z"
_ANSWER: dict[str, JsonValue] = {
    "eventId": "019b4fe1-2e40-7a31-9c1e-6c1f5d3a9b10",
    "isValid": True,
    "validationErrors": None,
    "receivedAt": _RECEIVED_AT,
}
_RESULT: JsonValue = {"status": "accepted", **{name: _ANSWER[name] for name in _ANSWER if name != "receivedAt"}}
_BATCH_ANSWER: dict[str, JsonValue] = {
    "accepted": 1,
    "duplicates": 0,
    "invalid": 0,
    "refused": 0,
    "receivedAt": _RECEIVED_AT,
    "results": [_RESULT],
}


class TrackedEvent(JsonModel):
    """One event. Either `userId` or `anonymousId` is needed; an unknown member flags the event."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [_EVENT]})

    event_name: Annotated[str, Field(min_length=1, max_length=200)]
    event_timestamp: Annotated[
        datetime | str | float | None,
        Field(description="When it happened: ISO 8601, or a number since 1970; now if missing."),
    ] = None
    user_id: Annotated[str | None, Field(max_length=255)] = None
    anonymous_id: Annotated[str | None, Field(max_length=255)] = None
    event_properties: Annotated[
        dict[str, Any] | str | None, Field(description="An object, or a string that holds one.")
    ] = None
    event_id: Annotated[str | None, Field(max_length=100, description="Yours; decides what is a repeat.")] = None
    message_id: Annotated[str | None, Field(max_length=100, description="Another name of eventId.")] = None
    sent_at: Annotated[
        datetime | str | float | None, Field(description="The client's clock when sending; corrects skew.")
    ] = None
    schema_version: Annotated[int | None, Field(ge=1)] = None
    event_type: Annotated[
        EventType | None, Field(description="What kind of call of an SDK it was; track if missing.")
    ] = None
    context: Annotated[dict[str, Any] | str | None, Field(description="Surroundings: an object as SDKs send it.")] = (
        None
    )


class DryRun(JsonModel):
    """To try out what would be answered."""

    dry_run: Annotated[bool, Field(description="Validate and answer as if, and store nothing.")] = False


class IngestRequest(TrackedEvent):
    """One event with its key, unless that comes in a header or the query."""

    api_key: str | None = None


class IngestAnswer(JsonModel):
    """The event is on disk."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    event_id: UUID
    is_valid: bool
    validation_errors: list[ValidationFault] | None
    received_at: datetime
    duplicate: Annotated[bool | None, Field(description="true if it was stored before; else left out.")] = None
    dry_run: DryRunMark = None


class BatchRequest(JsonModel):
    """Many events; also taken as a bare array, or as NDJSON with one event a line."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"apiKey": _EVENT["apiKey"], "events": [_EVENT]}]}
    )

    api_key: str | None = None
    sent_at: datetime | str | float | None = None
    events: list[TrackedEvent]


class BatchResult(JsonModel):
    """The result of one event, in the order in which they were sent."""

    status: Annotated[str, Field(description="accepted, duplicate or refused")]
    event_id: UUID | None = None
    is_valid: bool | None = None
    validation_errors: list[ValidationFault] | None = None
    code: Annotated[str | None, Field(description="Why it was refused.")] = None
    message: str | None = None
    details: list[FieldFault] | None = None


class BatchAnswer(JsonModel):
    """accepted + duplicates + refused = events sent; invalid counts those accepted with isValid=false."""

    model_config = ConfigDict(json_schema_extra={"examples": [_BATCH_ANSWER]})

    accepted: int
    duplicates: int
    invalid: int
    refused: int
    dry_run: DryRunMark = None
    received_at: datetime
    results: list[BatchResult]


_MESSAGE: dict[str, JsonValue] = {
    "type": "track",
    "event": "Order Completed",
    "userId": "user_12345",
    "anonymousId": "anon_67890",
    "messageId": "ajs-next-1766572200000-4e1c2b6f",
    "timestamp": "2025-12-24T10:30:00.000Z",
    "properties": {"orderId": "A-1001", "total": 49.9},
    "context": {"library": {"name": "analytics.js", "version": "1.84.0"}},
}


class SdkMessage(JsonModel):
    """A message of the Segment specification. Another member flags it `unknown_member`."""

    model_config = ConfigDict(extra="ignore", json_schema_extra={"examples": [_MESSAGE]})

    event: Annotated[str | None, Field(max_length=200, description="The event's name; of track alone.")] = None
    name: Annotated[str | None, Field(description="Of a page or screen; kept in the properties.")] = None
    user_id: Annotated[str | int | float | None, Field(description="This or anonymousId is needed.")] = None
    anonymous_id: str | int | float | None = None
    previous_id: Annotated[str | None, Field(description="Of alias: who the user was before.")] = None
    group_id: Annotated[str | int | float | None, Field(description="Of group.")] = None
    message_id: Annotated[str | None, Field(max_length=100, description="Makes repeats harmless.")] = None
    timestamp: Annotated[
        datetime | str | float | None, Field(description="When it happened; originalTimestamp if missing.")
    ] = None
    original_timestamp: datetime | str | float | None = None
    sent_at: Annotated[
        datetime | str | float | None, Field(description="The client's clock when sending; corrects skew.")
    ] = None
    properties: Annotated[dict[str, Any] | None, Field(description="Of track, page and screen.")] = None
    traits: Annotated[
        dict[str, Any] | None, Field(description="Of identify, group and alias; context.traits if missing.")
    ] = None
    context: dict[str, Any] | None = None
    write_key: Annotated[str | None, Field(description="The API key, unless it comes in a header or the query.")] = None


class SdkBatchMessage(SdkMessage):
    """A message that says its type itself."""

    type: EventType


class SdkBatch(JsonModel):
    """Messages of any types; also a bare array of them, or one message alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"batch": [_MESSAGE], "writeKey": _EVENT["apiKey"]}]})

    batch: list[SdkBatchMessage]
    sent_at: datetime | str | float | None = None
    write_key: str | None = None


class KeyQuery(JsonModel):
    """The key in the query; it may come as the user name of Basic, too."""

    write_key: Annotated[str | None, Field(examples=[_EVENT["apiKey"]])] = None


class PixelQuery(DryRun):
    """A message in the query; a parameter of another name is a property of it, as text."""

    model_config = ConfigDict(extra="allow")

    write_key: Annotated[str, Field(examples=[_EVENT["apiKey"]])]
    type: Annotated[EventType | None, Field(description="track if there is an event, else page.")] = None
    event: Annotated[str | None, Field(max_length=200)] = None
    anonymous_id: Annotated[str | None, Field(max_length=255, description="This or userId is needed.")] = None
    user_id: Annotated[str | None, Field(max_length=255)] = None
    message_id: Annotated[str | None, Field(max_length=100, description="Makes repeats harmless.")] = None
    timestamp: datetime | None = None


class SdkAnswer(IngestAnswer):
    """The response to one SDK message, with the members of the response to a single event."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"success": True, **_ANSWER}]})

    success: Literal[True]


class RejectedMessage(JsonModel):
    """A message that was not stored, and why."""

    index: int
    code: str
    message: str
    details: list[FieldFault] | None = None


class SdkBatchAnswer(JsonModel):
    """The sums of a batch."""

    success: Literal[True]
    accepted: int
    duplicates: int
    invalid: int
    refused: int
    dry_run: DryRunMark = None
    refusals: Annotated[list[RejectedMessage], Field(description="The first 20.")]
