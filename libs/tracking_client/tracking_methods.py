"""The tracking methods, which build the envelopes of events. No IO.

Ids and timestamps are fixed here, once. Every attempt to send an event carries the same ones, so that repeated attempts
are harmless. Only the gateway checks events; `on_error` is called for those that it rejects.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid4

from tracking_client.options import Options
from tracking_client.outcome import Counts, Failure, OutcomeReporter, QueueFull

Time = datetime | str | None
Object = Mapping[str, Any] | None
PutError = Literal["queue_full", "closed"]
_PUT_ERROR_MESSAGES: Mapping[PutError, str] = {
    "queue_full": "The queue is full; the gateway is away or slower than the program.",
    "closed": "The tracker is closed.",
}


class EncodedEvent(NamedTuple):
    """An envelope as JSON text."""

    event_id: str
    body: bytes


class TrackingMethods(ABC):
    """The methods of both trackers. Each returns the event's id at once, and neither waits nor raises for its data.

    `timestamp` is a datetime (one without a zone is local time), ISO 8601 text, or now. To repeat a call, give both
    `event_id` and `timestamp` as before: the two together make one event of it.
    """

    def __init__(self, options: Options, reporter: OutcomeReporter) -> None:
        self._options = options
        self._reporter = reporter

    @property
    def counts(self) -> Counts:
        """How many events were stored, were duplicates or failed so far."""
        return self._reporter.counts

    def track(
        self,
        event_name: str,
        *,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        properties: Object = None,
        timestamp: Time = None,
        context: Object = None,
        event_id: str | None = None,
    ) -> str:
        """Track that something happened. One of `user_id` and `anonymous_id` is needed."""
        return self._track("track", event_name, user_id, anonymous_id, properties, timestamp, context, event_id)

    def identify(
        self,
        user_id: str,
        *,
        anonymous_id: str | None = None,
        traits: Object = None,
        timestamp: Time = None,
        context: Object = None,
        event_id: str | None = None,
    ) -> str:
        """Track who a user is, and which anonymous visitor the user was before."""
        return self._track("identify", "identify", user_id, anonymous_id, traits, timestamp, context, event_id)

    def page(
        self,
        name: str | None = None,
        *,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        properties: Object = None,
        timestamp: Time = None,
        context: Object = None,
        event_id: str | None = None,
    ) -> str:
        """Track that a page was seen."""
        properties = _add_name("name", name, properties)
        return self._track("page", "page", user_id, anonymous_id, properties, timestamp, context, event_id)

    def screen(
        self,
        name: str | None = None,
        *,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        properties: Object = None,
        timestamp: Time = None,
        context: Object = None,
        event_id: str | None = None,
    ) -> str:
        """Track that a screen of an app was seen."""
        properties = _add_name("name", name, properties)
        return self._track("screen", "screen", user_id, anonymous_id, properties, timestamp, context, event_id)

    def group(
        self,
        group_id: str,
        *,
        user_id: str | None = None,
        anonymous_id: str | None = None,
        traits: Object = None,
        timestamp: Time = None,
        context: Object = None,
        event_id: str | None = None,
    ) -> str:
        """Track that a user belongs to a group, for example a company."""
        traits = _add_name("groupId", group_id, traits)
        return self._track("group", "group", user_id, anonymous_id, traits, timestamp, context, event_id)

    def alias(
        self,
        user_id: str,
        *,
        previous_id: str,
        timestamp: Time = None,
        context: Object = None,
        event_id: str | None = None,
    ) -> str:
        """Track that `previous_id`, an anonymous id or a user's, belongs to the same person as `user_id`."""
        properties = {"previousId": previous_id}
        return self._track("alias", "alias", user_id, None, properties, timestamp, context, event_id)

    def _track(
        self,
        kind: str,
        event_name: str,
        user_id: str | None,
        anonymous_id: str | None,
        properties: Object,
        timestamp: Time,
        context: Object,
        event_id: str | None,
    ) -> str:
        event_id = event_id or str(uuid4())
        given = {
            "eventId": event_id,
            "eventName": event_name,
            "eventType": kind if kind != "track" else None,
            "eventTimestamp": timestamp or datetime.now(UTC),
            "userId": user_id,
            "anonymousId": anonymous_id,
            "eventProperties": properties,
            "context": context,
        }
        self._accept(event_id, {name: value for name, value in given.items() if value is not None})
        return event_id

    def _accept(self, event_id: str, envelope: dict[str, Any]) -> None:
        try:
            envelope["eventTimestamp"] = _format_timestamp(envelope["eventTimestamp"])
            event = EncodedEvent(event_id, encode_json(envelope))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            self._fail("not_json", f"The event cannot be written as JSON: {error}", envelope)
            return
        if len(event.body) > self._options.batch_bytes:
            message = f"The event has {len(event.body)} bytes; a batch may have {self._options.batch_bytes}."
            self._fail("event_too_large", message, envelope)
            return
        put_error = self._put(event)
        if put_error is None:
            return
        if put_error == "queue_full" and self._options.when_full == "raise":
            raise QueueFull(_PUT_ERROR_MESSAGES[put_error])
        self._fail(put_error, _PUT_ERROR_MESSAGES[put_error], envelope)

    def _fail(self, code: str, message: str, envelope: dict[str, Any]) -> None:
        self._reporter.report([Failure(code, message, envelope)])

    @abstractmethod
    def _put(self, event: EncodedEvent) -> PutError | None:
        """Queue the event without waiting, or return why not."""


def encode_json(envelope: Mapping[str, Any]) -> bytes:
    """Encode as JSON in UTF-8. Raises TypeError, ValueError or RecursionError for values without JSON, such as NaN."""
    text = json.dumps(envelope, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_json_type)
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: the gateway stores and flags it, if it comes as an escape
        return json.dumps(envelope, separators=(",", ":"), default=_to_json_type).encode()


def _to_json_type(value: object) -> str | dict[str, Any]:
    """Convert values that properties often hold beside the types of JSON."""
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON")


def _format_timestamp(at: object) -> str:
    """Format as ISO 8601 in UTC; text stays as it is. Raises TypeError; OverflowError near the ends of the calendar."""
    if isinstance(at, str):
        return at
    if not isinstance(at, datetime):
        raise TypeError(f"a timestamp is a datetime or text, not {type(at).__name__}")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _add_name(name: str, value: str | None, properties: Object) -> Object:
    if value is None or not isinstance(properties, Mapping | None):
        return properties
    return {name: value, **(properties or {})}
