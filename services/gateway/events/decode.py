"""Decodes the bodies of senders: JSON by the fastest parser, and only a body that it does not accept by patient ones.

One event is then read by `lenient_json.py`. Of a batch the elements are read one by one (`salvage.py`), so that one
that cannot be read is rejected alone. A byte order mark is skipped.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import orjson

from services.gateway.events.envelope import FlaggedEnvelope
from services.gateway.events.lenient_json import decode_leniently
from services.gateway.events.members import find_key, share_members
from services.gateway.events.rejection import Rejection
from services.gateway.events.salvage import decode_element, salvage_batch
from services.gateway.events.segment import is_historical
from tracking.domain.errors import Malformed, TooLarge

_MAX_LINES = 100_000  # more would hold up others while they are counted
_BATCH_MEMBERS = frozenset({"apiKey", "writeKey", "events", "historical", "sentAt"})
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parse_json(body: bytes) -> Any:
    """Parse JSON, with or without a byte order mark. Raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if not body.startswith(_BYTE_ORDER_MARK):
            raise
        return orjson.loads(body[len(_BYTE_ORDER_MARK) :])


def decode_event(body: bytes) -> Any:
    """Decode the body of one event, a FlaggedEnvelope if it had to be changed. Raises Malformed."""
    try:
        return parse_json(body)
    except orjson.JSONDecodeError as error:
        return _decode_leniently(body, error)


def decode_sdk_batch(body: bytes, max_events: int) -> Any:
    """Decode `{batch: […], …}`, an array of messages, or one message alone. Raises Malformed, and TooLarge.

    The messages of a body that is not JSON may be FlaggedEnvelopes or Rejections.
    """
    try:
        return parse_json(body)
    except orjson.JSONDecodeError as error:
        found = salvage_batch(body.removeprefix(_BYTE_ORDER_MARK), "batch", max_events)
        return found if found is not None else _decode_leniently(body, error)


def _decode_leniently(body: bytes, error: orjson.JSONDecodeError) -> Any:
    try:
        value, flags = decode_leniently(body.removeprefix(_BYTE_ORDER_MARK))
    except ValueError:
        raise Malformed("malformed_json", f"The body is not JSON: {error}.") from error
    return FlaggedEnvelope(value, flags, body) if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True)
class BatchBody:
    """A decoded batch: each envelope, or a Rejection for an element or a line that is not JSON."""

    envelopes: list[Any]
    api_key: str | None
    sent_at: Any
    is_historical: bool = False


def decode_batch(body: bytes, max_events: int = _MAX_LINES) -> BatchBody:
    """Decode `{apiKey?, sentAt?, events: […]}`, an array of events, or one event a line (NDJSON).

    Raises Malformed, and TooLarge if there are too many elements or lines.
    """
    try:
        decoded = parse_json(body)
    except orjson.JSONDecodeError as error:
        body = body.removeprefix(_BYTE_ORDER_MARK)
        decoded = salvage_batch(body, "events", max_events)
        if decoded is None:
            decoded = _decode_lines(body, max_events, error)
    key = find_key(decoded)
    if isinstance(decoded, list):
        return BatchBody(decoded, key, None)
    if isinstance(decoded, dict) and "events" not in decoded and "eventName" in decoded:
        return BatchBody([decoded], key, None)  # NDJSON of one line
    if not isinstance(decoded, dict) or not isinstance(decoded.get("events"), list):
        fault = {"field": "events", "message": "must be an array of events"}
        raise Malformed("invalid_batch", "A batch is {events: [...]}, an array, or one event a line.", [fault])
    if not _BATCH_MEMBERS.issuperset(decoded):
        decoded["events"] = share_members(decoded["events"], decoded, _BATCH_MEMBERS)
    return BatchBody(decoded["events"], key, decoded.get("sentAt"), is_historical(decoded))


def _decode_lines(body: bytes, max_events: int, error: orjson.JSONDecodeError) -> Any:
    """Return the events of NDJSON, or the one value that several lines make."""
    if body.count(b"\n") > _MAX_LINES:
        raise TooLarge("too_many_events", f"The body has more than {_MAX_LINES} lines.") from error
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) < 2:
        return _decode_leniently(body, error)
    if len(lines) > max_events:
        raise TooLarge("too_many_events", f"{len(lines)} lines; the limit is {max_events} events a batch.") from error
    elements = [decode_element(line) for line in lines]
    if all(isinstance(element, Rejection) for element in elements):
        with contextlib.suppress(Malformed):
            return _decode_leniently(body, error)  # one event on several lines
    return elements
