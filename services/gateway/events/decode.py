r"""Decodes JSON from senders, including texts with half of a surrogate pair.

JavaScript that cuts a text inside an emoji sends `"\ud83d"`, which RFC 8259 allows, but orjson and PostgreSQL do not
accept. Such an escape is replaced by `\u0000`. Only the event that contains it is then flagged and stored with U+FFFD,
and the rest of its batch is not affected.
"""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from services.gateway.events.rejection import Rejection
from tracking.domain.errors import Malformed, TooLarge

_MAX_LINES = 100_000  # more would hold up others while they are read

# Decoding a larger body would delay other requests for too long.
_MENDED_BYTES = 1024 * 1024
_HEX = rb"[0-9a-fA-F]"
_HIGH, _LOW = rb"[dD][89abAB]" + _HEX * 2, rb"[dD][c-fC-F]" + _HEX * 2
# the escape comes first, as a literal is what `re` finds fast; then, that its backslash is not itself escaped
_HALF_PAIR = re.compile(
    rb"\\u(?<!\\\\u)(?:" + _HIGH + rb"(?!\\u" + _LOW + rb")|(?<!\\u" + _HIGH + rb"\\u)" + _LOW + rb")"
)


def parse_json(body: bytes) -> Any:
    """Parse JSON, with half surrogate pairs replaced. Raises orjson.JSONDecodeError."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        if len(body) > _MENDED_BYTES:
            raise
        mended, count = _HALF_PAIR.subn(rb"\\u0000", body)
        if not count:
            raise
        return orjson.loads(mended)


def decode_event(body: bytes) -> Any:
    """Decode the body of one event. Raises Malformed."""
    try:
        return parse_json(body)
    except orjson.JSONDecodeError as error:
        raise Malformed("malformed_json", f"The body is not JSON: {error}.") from error


@dataclass(frozen=True, slots=True)
class BatchBody:
    """A decoded batch: each envelope, or a Rejection for a line of NDJSON that is not JSON."""

    envelopes: list[Any]
    api_key: str | None
    sent_at: Any


def decode_batch(body: bytes) -> BatchBody:
    """Decode `{apiKey?, sentAt?, events: […]}`, an array of events, or one event a line (NDJSON).

    Raises Malformed, and TooLarge if there are too many lines.
    """
    try:
        decoded = parse_json(body)
    except orjson.JSONDecodeError as error:
        if body.count(b"\n") > _MAX_LINES:
            raise TooLarge("too_many_events", f"The body has more than {_MAX_LINES} lines.") from error
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) < 2:
            raise Malformed("malformed_json", f"The body is neither JSON nor NDJSON: {error}.") from error
        return BatchBody([_decode_line(line) for line in lines], None, None)
    if isinstance(decoded, list):
        return BatchBody(decoded, None, None)
    if isinstance(decoded, dict) and "events" not in decoded and "eventName" in decoded:
        return BatchBody([decoded], None, None)  # NDJSON of one line
    if not isinstance(decoded, dict) or not isinstance(decoded.get("events"), list):
        fault = {"field": "events", "message": "must be an array of events"}
        raise Malformed("invalid_batch", "A batch is {events: [...]}, an array, or one event a line.", [fault])
    key = decoded.get("apiKey")
    return BatchBody(decoded["events"], key if isinstance(key, str) else None, decoded.get("sentAt"))


def _decode_line(line: bytes) -> Any:
    try:
        return parse_json(line)
    except orjson.JSONDecodeError as error:
        return Rejection("malformed_json", f"This line is not JSON: {error}.", raw=line)
