"""Decides what an envelope is: an event to store (valid or flagged), or something to refuse with a reason. No IO.

Only what cannot be an event at all is refused. A field that breaks its schema, a NUL, properties that are no object:
the event is stored and says what is wrong with it.
"""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import getrandbits
from typing import Any, Literal
from uuid import UUID

import orjson

from services.gateway import privacy
from services.gateway.json_body import read_json
from services.gateway.privacy import Personal
from services.gateway.structures import Structures
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import Malformed, TooLarge
from tracking.domain.tracking_event import (
    EVENT_TYPES,
    MAX_CLIENT_ID_CHARACTERS,
    TrackingEvent,
    client_event_id,
    fresh_id,
    parse_timestamp,
    settle_time,
    to_unix_ms,
)

Reason = Literal["malformed_json", "invalid_event", "event_too_large", "too_deep", "not_storable"]
_MAX_DEPTH = 64
_TOO_DEEP = f"eventProperties is nested deeper than {_MAX_DEPTH} levels."
_MAX_ERRORS = 20
_MOST_LINES = 100_000  # more would hold up others while they are read
_MAX_SCHEMA_VERSION = 2**31 - 1
_NUL = "\x00"
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Refused:
    """Not an event: why, and each fault as `{field, message}`."""

    reason: Reason
    message: str
    faults: tuple[dict[str, str], ...] = ()
    # a line of NDJSON that is no JSON; else what was sent is at hand
    raw: bytes | None = None


@dataclass(slots=True)
class Sender:
    """What the events of one request share."""

    key: ApiKeyEntry
    received_at: datetime
    correlation_id: str
    event_bytes: int
    sent_at: datetime | None = None
    idempotency_key: str | None = None
    is_dry_run: bool = False
    # of a browser: a server's say nothing of the person
    address: str | None = None
    user_agent: str | None = None
    received_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.received_ms = _clock.ms if self.received_at is _clock.at else to_unix_ms(self.received_at)


class _Notes:
    """What reading an envelope brought up: every fault, so that a sender hears of all of them at once."""

    __slots__ = ("faults", "has_nul")

    def __init__(self) -> None:
        self.faults: list[dict[str, str]] = []
        self.has_nul = False

    def fault(self, name: str, message: str) -> None:
        """Note a fault of the field `name`."""
        self.faults.append({"field": name, "message": message})


def _text(envelope: dict[str, Any], name: str, most: int, notes: _Notes) -> str | None:
    """A string of at most `most` characters; null and "" count as missing."""
    value = envelope.get(name)
    if not value and (value is None or value == ""):
        return None
    if not isinstance(value, str):
        notes.fault(name, "must be a string")
        return None
    if len(value) > most:
        notes.fault(name, f"longer than {most} characters")
        return None
    if _NUL in value:
        notes.has_nul = True
        return value.replace(_NUL, _REPLACEMENT)
    return value


def _timestamp(envelope: dict[str, Any], name: str, notes: _Notes) -> datetime | None:
    """ISO 8601 as UTC."""
    value = envelope.get(name)
    if value is None:
        return None
    parsed = parse_timestamp(value) if isinstance(value, str) else None
    if parsed is None:
        notes.fault(name, "not an ISO 8601 timestamp such as 2025-12-24T10:30:00Z")
    return parsed


def _schema_version(envelope: dict[str, Any], notes: _Notes) -> int | None:
    """A whole number from 1."""
    value = envelope.get("schemaVersion")
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= _MAX_SCHEMA_VERSION:
        notes.fault("schemaVersion", "must be a whole number from 1")
        return None
    return value


def _event_type(envelope: dict[str, Any], notes: _Notes) -> str | None:
    """One of EVENT_TYPES; None is track."""
    value = envelope["eventType"]
    if value is not None and (not isinstance(value, str) or value not in EVENT_TYPES):
        notes.fault("eventType", f"must be one of {', '.join(EVENT_TYPES)}")
    return value if value != "track" else None


def _client_id(envelope: dict[str, Any], notes: _Notes) -> str | None:
    """`eventId`, or its other name `messageId`."""
    for name in ("eventId", "messageId"):
        if name in envelope:
            found = _text(envelope, name, MAX_CLIENT_ID_CHARACTERS, notes)
            if found is not None:
                return found
    return None


def decide(envelope: Any, sender: Sender, structures: Structures, position: int = 0) -> TrackingEvent | Refused:
    """The event that `envelope` is, or why it is none. `position` counts within a batch.

    Raises structures.NotLoaded when a validator must be fetched first; nothing has happened then, so ask again.
    """
    if not isinstance(envelope, dict):
        if isinstance(envelope, Refused):
            return envelope  # a line of NDJSON that was no JSON
        return Refused("invalid_event", "An event must be a JSON object.")
    notes = _Notes()
    name = _text(envelope, "eventName", 200, notes)
    user_id = _text(envelope, "userId", 255, notes)
    anonymous_id = _text(envelope, "anonymousId", 255, notes)
    client_id = _client_id(envelope, notes)
    original = _timestamp(envelope, "eventTimestamp", notes)
    sent_at = (_timestamp(envelope, "sentAt", notes) if "sentAt" in envelope else None) or sender.sent_at
    version = _schema_version(envelope, notes) if "schemaVersion" in envelope else None
    kind = _event_type(envelope, notes) if "eventType" in envelope else None
    if name is None or notes.faults or (user_id is None and anonymous_id is None):
        return _refuse(name, user_id or anonymous_id, notes)

    errors: list[dict[str, Any]] = []
    stored = _stored(envelope.get("eventProperties"), sender.event_bytes, errors)
    if isinstance(stored, Refused):
        return stored
    properties, text = _cleaned(*stored, notes)
    context = _context(envelope, sender.event_bytes, len(text), errors, notes)
    if isinstance(context, Refused):
        return context
    if notes.has_nul:
        errors.append(_error("nul_character", "", "U+0000, or half of a surrogate pair, was replaced by U+FFFD"))
    _validate(properties, len(text), sender.key.partner_id, name, version, structures, errors)

    if client_id is None and sender.idempotency_key is not None:
        client_id = f"{sender.idempotency_key}:{position}" if position else sender.idempotency_key
    identity = _identity(sender, client_id, original)
    surroundings, is_bot = None, False
    if context is not None or sender.address is not None or sender.key.settings.privacy_rules:
        person = Personal(user_id, anonymous_id, properties, context)
        (user_id, anonymous_id), text, surroundings, is_bot = _settled(person, text, sender)
    event_timestamp, clock_adjusted = settle_time(original, sent_at, sender.received_at)
    # in the order of its fields: by name it would take twice as long, for every event
    return TrackingEvent(
        sender.key.partner_system_id,
        identity,
        name,
        event_timestamp,
        original,
        sent_at,
        sender.received_at,
        user_id,
        anonymous_id,
        client_id,
        text,
        version,
        not errors,
        orjson.dumps(errors[:_MAX_ERRORS]) if errors else None,
        clock_adjusted,
        sender.correlation_id,
        kind,
        surroundings,
        is_bot,
    )


def _context(
    envelope: dict[str, Any], most_bytes: int, beside_bytes: int, errors: list[dict[str, Any]], notes: _Notes
) -> Any:
    """The context as an object, None if there is none, or Refused."""
    if envelope.get("context") is None:
        return None
    stored = _stored(envelope["context"], most_bytes, errors, "context", beside_bytes)
    return stored if isinstance(stored, Refused) else _cleaned(*stored, notes)[0]


def _settled(
    person: Personal, text: bytes, sender: Sender
) -> tuple[tuple[str | None, str | None], bytes, bytes | None, bool]:
    """What may be kept: both ids, the properties and the context as JSON text, and whether it is of a bot."""
    settings = sender.key.settings
    person, is_bot = privacy.settled(settings, sender.key.partner_system_id, person, sender.address, sender.user_agent)
    if settings.privacy_rules:
        text = orjson.dumps(person.properties or {})
    context = orjson.dumps(person.context) if person.context else None
    return (person.user_id, person.anonymous_id), text, context, is_bot


def _refuse(name: str | None, actor: str | None, notes: _Notes) -> Refused:
    faulty = {fault["field"] for fault in notes.faults}
    if name is None and "eventName" not in faulty:
        notes.fault("eventName", "required")
    if actor is None and not faulty & {"userId", "anonymousId"}:
        notes.fault("anonymousId", "required when userId is missing")
    message = "; ".join(f"{fault['field']}: {fault['message']}" for fault in notes.faults)
    return Refused("invalid_event", f"Not an event: {message}.", tuple(notes.faults))


def _identity(sender: Sender, client_id: str | None, original: datetime | None) -> UUID:
    if client_id is not None:
        return client_event_id(sender.key.partner_system_id, client_id, original)
    return fresh_id(sender.received_ms, getrandbits(74))


def _stored(
    value: Any, most_bytes: int, errors: list[dict[str, Any]], field: str = "eventProperties", beside_bytes: int = 0
) -> tuple[Any, bytes] | Refused:
    """As `_properties`, within the limits of depth and, with the `beside_bytes` of the event's other parts, of size."""
    try:
        properties, text = _properties(value, errors, field)
    except orjson.JSONEncodeError:
        return Refused("too_deep", _TOO_DEEP)  # orjson reads 1 024 levels but writes only 254
    size_bytes = len(text) + beside_bytes
    if size_bytes > most_bytes:
        return Refused("event_too_large", f"The event has {size_bytes} bytes; the limit is {most_bytes}.")
    if _is_too_deep(properties, text):
        return Refused("too_deep", _TOO_DEEP)
    return properties, text


def _properties(value: Any, errors: list[dict[str, Any]], field: str) -> tuple[Any, bytes]:
    """The properties, or the context, as an object and as the JSON text that is stored."""
    if value is None:
        return {}, b"{}"
    if isinstance(value, dict):
        return value, orjson.dumps(value)
    if isinstance(value, str):
        try:
            inner = orjson.loads(value)
        except orjson.JSONDecodeError:
            inner = None
        if isinstance(inner, dict):
            return inner, orjson.dumps(inner)
    errors.append(_error("not_an_object", "", f"{field} is no JSON object; it is kept under $raw"))
    kept = {"$raw": value}
    return kept, orjson.dumps(kept)


def _is_too_deep(properties: Any, text: bytes) -> bool:
    # fewer brackets than levels cannot be too deep, and that is nearly every event
    if text.count(b"{") + text.count(b"[") <= _MAX_DEPTH:
        return False
    level = [properties]
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


def _cleaned(value: Any, text: bytes, notes: _Notes) -> tuple[Any, bytes]:
    """An object and its JSON text without U+0000."""
    if b"\\" in text and b"\\u0000" in text:
        value, found = _without_nul(value)
        if found:
            notes.has_nul = True
            return value, orjson.dumps(value)
    return value, text


def _without_nul(value: Any) -> tuple[Any, bool]:
    """`value` with U+FFFD for every U+0000 in strings and names, and whether there was one; depth is checked before."""
    if isinstance(value, str):
        return value.replace(_NUL, _REPLACEMENT), _NUL in value
    if isinstance(value, list):
        pairs = [_without_nul(item) for item in value]
        return [item for item, _ in pairs], any(found for _, found in pairs)
    if isinstance(value, dict):
        cleaned: dict[str, Any] = {}
        any_found = False
        for name, item in value.items():
            inner, found = _without_nul(item)
            cleaned[name.replace(_NUL, _REPLACEMENT)] = inner
            any_found = any_found or found or _NUL in name
        return cleaned, any_found
    return value, False


def _validate(
    properties: Any,
    size_bytes: int,
    partner_id: UUID,
    name: str,
    version: int | None,
    structures: Structures,
    errors: list[dict[str, Any]],
) -> None:
    try:
        structure = structures.find(partner_id, name, version)
    except Malformed as unknown:
        errors.append(_error(unknown.code, "", unknown.message))
        return
    if structure is not None:
        errors.extend(structures.validator(structure).errors(properties, size_bytes))


def _error(code: str, path: str, message: str) -> dict[str, Any]:
    return {"code": code, "path": path, "schemaPath": "", "message": message}


def decode_single(body: bytes) -> Any:
    """The body of one event. Raises Malformed."""
    try:
        return read_json(body)
    except orjson.JSONDecodeError as error:
        raise Malformed("malformed_json", f"The body is not JSON: {error}.") from error


@dataclass(frozen=True, slots=True)
class BatchBody:
    """A batch as it came: each envelope, or Refused for a line of NDJSON that is no JSON."""

    envelopes: list[Any]
    api_key: str | None
    sent_at: Any


def decode_batch(body: bytes) -> BatchBody:
    """`{apiKey?, sentAt?, events: […]}`, a bare array of events, or one event a line (NDJSON).

    Raises Malformed, and TooLarge for lines without end.
    """
    try:
        decoded = read_json(body)
    except orjson.JSONDecodeError as error:
        if body.count(b"\n") > _MOST_LINES:
            raise TooLarge("too_many_events", f"The body has more than {_MOST_LINES} lines.") from error
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
        return read_json(line)
    except orjson.JSONDecodeError as error:
        return Refused("malformed_json", f"This line is not JSON: {error}.", raw=line)


class _Clock:
    """The last time that was asked for: requests come in bursts, and those of one millisecond share its object."""

    ms = 0
    at = datetime.fromtimestamp(0, UTC)


_clock = _Clock()


def now() -> datetime:
    """The receive time, cut to the milliseconds that answers show; the same object all through a millisecond."""
    ms = time.time_ns() // 1_000_000
    if ms != _clock.ms:
        _clock.ms, _clock.at = ms, datetime.fromtimestamp(ms / 1000, UTC)
    return _clock.at
