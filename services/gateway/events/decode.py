r"""JSON as senders write it: half of a surrogate pair does not make a whole batch unreadable.

JavaScript that cuts a text inside an emoji sends `"\ud83d"`, which RFC 8259 allows and orjson (as PostgreSQL) does not
read. It becomes `\u0000`, so that its event alone is stored with U+FFFD and flagged.
"""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from services.gateway.events.rejection import Rejection
from tracking.domain.errors import Malformed, TooLarge

_MAX_LINES = 100_000  # more would hold up others while they are read

# a larger body would hold up others for too long
_MENDED_BYTES = 1024 * 1024
_HEX = rb"[0-9a-fA-F]"
_HIGH, _LOW = rb"[dD][89abAB]" + _HEX * 2, rb"[dD][c-fC-F]" + _HEX * 2
# the escape comes first, as a literal is what `re` finds fast; then, that its backslash is not itself escaped
_HALF_PAIR = re.compile(
    rb"\\u(?<!\\\\u)(?:" + _HIGH + rb"(?!\\u" + _LOW + rb")|(?<!\\u" + _HIGH + rb"\\u)" + _LOW + rb")"
)


def parse_json(body: bytes) -> Any:
    """Raises orjson.JSONDecodeError."""
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
    """The body of one event. Raises Malformed."""
    try:
        return parse_json(body)
    except orjson.JSONDecodeError as error:
        raise Malformed("malformed_json", f"The body is not JSON: {error}.") from error


@dataclass(frozen=True, slots=True)
class BatchBody:
    """A batch as it came: each envelope, or a Rejection for a line of NDJSON that is no JSON."""

    envelopes: list[Any]
    api_key: str | None
    sent_at: Any


def decode_batch(body: bytes) -> BatchBody:
    """`{apiKey?, sentAt?, events: […]}`, a bare array of events, or one event a line (NDJSON).

    Raises Malformed, and TooLarge for lines without end.
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
