"""Normalizes the JSON objects of an event, properties and context, for validation and for PostgreSQL.

The event is kept whatever the value is: a value that is not an object becomes `{"$raw": ...}`, U+0000 becomes U+FFFD.
PHP writes an object without members as `[]`, so an empty array is an empty object wherever an object is meant.
"""

from typing import Any

import orjson

from services.gateway.events.rejection import EventErrors, Rejection

_MAX_DEPTH = 64
_TOO_DEEP = f"eventProperties is nested deeper than {_MAX_DEPTH} levels."
NUL = "\x00"
REPLACEMENT = "\ufffd"
# The members of a context that are objects, of which PHP makes an array if they are empty.
_CONTEXT_OBJECTS = (
    "app",
    "campaign",
    "consent",
    "device",
    "library",
    "location",
    "network",
    "os",
    "page",
    "referrer",
    "screen",
    "traits",
    "userAgentData",
)


def normalize_object(
    value: Any, most_bytes: int, notes: EventErrors, field: str = "eventProperties", beside_bytes: int = 0
) -> tuple[Any, bytes] | Rejection:
    """Return the value as an object and as JSON text, within the limits of depth and, with `beside_bytes`, of size."""
    try:
        if isinstance(value, dict):
            text = orjson.dumps(value)
        else:
            value, text = _object(value, notes, field)
    except orjson.JSONEncodeError:
        return Rejection("too_deep", _TOO_DEEP)  # orjson reads 1 024 levels but writes only 254
    if b"[]" in text and field == "context":
        value, text = _with_empty_objects(value)
    size_bytes = len(text) + beside_bytes
    if size_bytes > most_bytes:
        return Rejection("event_too_large", f"The event has {size_bytes} bytes; the limit is {most_bytes}.")
    # A text with fewer brackets than allowed levels cannot be too deep; this holds for nearly every event.
    if text.count(b"{") + text.count(b"[") > _MAX_DEPTH and _is_too_deep(value):
        return Rejection("too_deep", _TOO_DEEP)
    if b"\\" in text and b"\\u0000" in text:
        value, found = _without_nul(value)
        if found:
            notes.has_nul = True
            text = orjson.dumps(value)
    return value, text


def _object(value: Any, notes: EventErrors, field: str) -> tuple[Any, bytes]:
    if value is None or value == []:
        return {}, b"{}"
    if isinstance(value, str):
        try:
            inner = orjson.loads(value)
        except orjson.JSONDecodeError:
            inner = None
        if isinstance(inner, dict) or inner == []:
            return inner or {}, orjson.dumps(inner or {})
    notes.add_validation_error("not_an_object", f"{field} is no JSON object; it is kept under $raw")
    kept = {"$raw": value}
    return kept, orjson.dumps(kept)


def _with_empty_objects(context: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    empty: dict[str, Any] = {name: {} for name in _CONTEXT_OBJECTS if context.get(name) == []}
    context = {**context, **empty}
    return context, orjson.dumps(context)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _without_nul(value: Any) -> tuple[Any, bool]:
    """Return `value` with U+FFFD for every U+0000 in strings and names, and whether there was one.

    The caller has checked the depth before.
    """
    if isinstance(value, str):
        return value.replace(NUL, REPLACEMENT), NUL in value
    if isinstance(value, list):
        pairs = [_without_nul(item) for item in value]
        return [item for item, _ in pairs], any(found for _, found in pairs)
    if isinstance(value, dict):
        cleaned: dict[str, Any] = {}
        any_found = False
        for name, item in value.items():
            inner, found = _without_nul(item)
            cleaned[name.replace(NUL, REPLACEMENT)] = inner
            any_found = any_found or found or NUL in name
        return cleaned, any_found
    return value, False
