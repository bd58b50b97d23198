"""Decides whether an envelope is an event to store (valid or flagged) or is rejected, with the reason.

The decision is pure: it reads neither a clock nor a source of random bits, so the same arguments make the same event.

An envelope is rejected only if it cannot be an event at all. If a field breaks its schema, a text contains NUL or the
properties are not an object, the event is stored with the validation errors.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.gateway.events.envelope import FlaggedEnvelope
from services.gateway.events.members import EVENT_MEMBERS, adopt_members, keep_unknown
from services.gateway.events.privacy import PersonalData, apply_privacy
from services.gateway.events.properties import NUL, REPLACEMENT, normalize_object
from services.gateway.events.rejection import EventErrors, Rejection
from services.gateway.events.segment import is_historical
from services.gateway.events.structure_index import StructureIndex
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import Malformed
from tracking.domain.idempotency_key import IdempotencyKey
from tracking.domain.identity_link import MAX_ID_CHARACTERS
from tracking.domain.ids import derive_event_id, get_unix_ms, make_uuid7
from tracking.domain.placeholder_ids import is_placeholder_id
from tracking.domain.timestamps import correct_clock_skew, parse_timestamp, read_time, to_unix_ms
from tracking.domain.tracking_event import EVENT_TYPES, MAX_CLIENT_ID_CHARACTERS, TrackingEvent

_MAX_ERRORS = 20
_MAX_SHOWN_CHARACTERS = 60
_MAX_SCHEMA_VERSION = 2**31 - 1
# `_Event.__new__(_Event, …)` is TrackingEvent(…) by name, as fast as by position: for more than 14 arguments by name
# CPython 3.11 builds a dictionary, which takes a microsecond, unless it compiles the call as that of a method
# (Python/compile.c, STACK_USE_GUIDELINE). A name that is imported does not count as an object with methods.
_Event = TrackingEvent


@dataclass(slots=True)
class IngestContext:
    """The values that the events of one request share; `received_ms` is `received_at` in Unix milliseconds."""

    key: ApiKeyEntry
    received_at: datetime
    received_ms: int
    correlation_id: str
    event_bytes: int
    sent_at: datetime | None = None
    is_historical: bool = False
    idempotency_key: str | None = None
    # the same key with the body that came with it
    request_key: IdempotencyKey | None = None
    is_dry_run: bool = False
    # Events from before it are not kept; None: there is no such time.
    raw_since: datetime | None = None
    # The address and the User-Agent of a browser; those of a server tell nothing about the person.
    address: str | None = None
    user_agent: str | None = None


def _text(envelope: dict[str, Any], name: str, most: int, notes: EventErrors) -> str | None:
    """Return a string of at most `most` characters; null and "" count as missing."""
    value = envelope.get(name)
    if not value and (value is None or value == ""):
        return None
    if not isinstance(value, str):
        notes.add_field_error(name, "must be a string")
        return None
    if len(value) > most:
        notes.add_field_error(name, f"longer than {most} characters")
        return None
    if NUL in value:
        notes.has_nul = True
        return value.replace(NUL, REPLACEMENT)
    return value


def _timestamp(envelope: dict[str, Any], name: str, notes: EventErrors) -> datetime | None:
    """Return a time in UTC; null and "" count as missing, and one that cannot be read flags the event."""
    value = envelope.get(name)
    if value is None or value == "":
        return None
    parsed = parse_timestamp(value) if isinstance(value, str) else read_time(value)
    if parsed is None:
        shown = repr(value)[:_MAX_SHOWN_CHARACTERS].replace(NUL, REPLACEMENT)
        notes.add_validation_error("unreadable_time", f"{name}: {shown} is no time such as 2025-12-24T10:30:00Z")
    return parsed


def _find_proof(envelope: dict[str, Any], sent_at: datetime, sender: IngestContext) -> datetime | None:
    """Return `sentAt` if it tells what the client's clock said when it sent the event to this gateway.

    An event of an archive was sent elsewhere, long ago. One that was passed on, which shows by `receivedAt` or by a
    timestamp beside the client's own, was corrected by the service that received it first.
    """
    if sender.is_historical or is_historical(envelope) or envelope.get("receivedAt") is not None:
        return None
    was_passed_on = envelope.get("originalTimestamp") and envelope.get("eventTimestamp")
    return None if was_passed_on else sent_at


def _schema_version(envelope: dict[str, Any], notes: EventErrors) -> int | None:
    """Return the schema version, a whole number from 1."""
    value = envelope.get("schemaVersion")
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= _MAX_SCHEMA_VERSION:
        notes.add_field_error("schemaVersion", "must be a whole number from 1")
        return None
    return value


def _event_type(envelope: dict[str, Any], notes: EventErrors) -> str | None:
    """Return the event type, one of EVENT_TYPES; None stands for track."""
    value = envelope["eventType"]
    if value is not None and (not isinstance(value, str) or value not in EVENT_TYPES):
        notes.add_field_error("eventType", f"must be one of {', '.join(EVENT_TYPES)}")
    return value if value != "track" else None


def _read_actor(envelope: dict[str, Any], notes: EventErrors) -> tuple[str | None, str | None]:
    """Return the user id and the anonymous id.

    Placeholders are flagged; of two ids one that is a placeholder is left out, so that the other one is the actor. An
    event has at least one id, so without a better one a placeholder stays.
    """
    user_id = _text(envelope, "userId", MAX_ID_CHARACTERS, notes)
    anonymous_id = _text(envelope, "anonymousId", MAX_ID_CHARACTERS, notes)
    is_user = user_id is not None and not is_placeholder_id(user_id)
    is_visitor = anonymous_id is not None and not is_placeholder_id(anonymous_id)
    if user_id is not None and not is_user:
        _flag_placeholder("userId", user_id, notes)
    if anonymous_id is not None and not is_visitor:
        _flag_placeholder("anonymousId", anonymous_id, notes)
    if is_user != is_visitor:
        return (user_id, None) if is_user else (None, anonymous_id)
    return user_id, anonymous_id


def _flag_placeholder(field: str, value: str, notes: EventErrors) -> None:
    notes.add_validation_error("placeholder_id", f"{field}: {value!r} stands for no id; it is linked with nothing")


def _flag_previous_id(properties: Any, notes: EventErrors) -> None:
    previous_id = properties.get("previousId")
    if isinstance(previous_id, str) and is_placeholder_id(previous_id):
        _flag_placeholder("previousId", previous_id, notes)


def _client_id(envelope: dict[str, Any], notes: EventErrors) -> str | None:
    """Return the id that the client gave: `eventId`, or its alias `messageId`."""
    for name in ("eventId", "messageId"):
        if name in envelope:
            found = _text(envelope, name, MAX_CLIENT_ID_CHARACTERS, notes)
            if found is not None:
                return found
    return None


def _derive_id(
    client_id: str | None, original: datetime | None, sender: IngestContext, position: int
) -> tuple[str | None, UUID]:
    """Return the event's message id and id. An Idempotency-Key is a name for events without an id of their own.

    In a batch the name ends with the position, counted over all its elements.
    """
    if client_id is not None:
        return client_id, derive_event_id(sender.key.partner_system_id, client_id, original)
    key = sender.idempotency_key
    name = f"{key}:{position}" if position else f"{key}"
    return name, derive_event_id(sender.key.partner_system_id, name, original, is_name=True)


def decide(
    envelope: Any, sender: IngestContext, structures: StructureIndex, random_bits: int, position: int = 0
) -> TrackingEvent | Rejection:
    """Return the event that `envelope` describes, or the reason why it is rejected.

    The id of an event without a message id is made of the receive time and `random_bits`, 74 of them. `position` counts
    within a batch. Raises SchemaNotLoaded if a validator must be loaded first. Nothing has been changed then: load the
    validator and call again.
    """
    notes = EventErrors()
    if envelope.__class__ is not dict and not isinstance(envelope, FlaggedEnvelope):
        return _reject_value(envelope)
    if not EVENT_MEMBERS.issuperset(envelope):
        envelope = adopt_members(envelope)
    name = _text(envelope, "eventName", 200, notes)
    user_id, anonymous_id = _read_actor(envelope, notes)
    client_id = _client_id(envelope, notes)
    said = _timestamp(envelope, "eventTimestamp", notes)
    original = _timestamp(envelope, "originalTimestamp", notes) if "originalTimestamp" in envelope else said
    sent_at = (_timestamp(envelope, "sentAt", notes) if "sentAt" in envelope else None) or sender.sent_at
    version = _schema_version(envelope, notes) if "schemaVersion" in envelope else None
    kind = _event_type(envelope, notes) if "eventType" in envelope else None
    if name is None or notes.field_errors or (user_id is None and anonymous_id is None):
        return _reject(name, user_id or anonymous_id, notes)

    kept = normalize_object(envelope.get("eventProperties"), sender.event_bytes, notes)
    if isinstance(kept, Rejection):
        return kept
    properties, text = kept
    context = None
    if envelope.get("context") is not None or envelope.__class__ is not dict:
        context = _read_context(envelope, sender, len(text), notes)
        if isinstance(context, Rejection):
            return context
    _validate(properties, len(text), sender.key.partner_id, name, version, structures, notes)
    if kind == "alias":
        _flag_previous_id(properties, notes)

    client_id, identity = (
        (None, make_uuid7(sender.received_ms, random_bits))
        if client_id is None and sender.idempotency_key is None
        else _derive_id(client_id, said or original, sender, position)
    )
    event_timestamp, clock_adjusted = correct_clock_skew(
        said or original, sent_at and _find_proof(envelope, sent_at, sender), sender.received_at
    )
    if sender.raw_since is not None and _is_too_old(identity, event_timestamp, sender.raw_since):
        return Rejection("event_too_old", f"Events from before {sender.raw_since.isoformat()} are not kept.")
    surroundings, is_bot = None, False
    if context is not None or sender.address is not None or sender.key.settings.privacy_rules:
        person = PersonalData(user_id, anonymous_id, properties, context)
        (user_id, anonymous_id), text, surroundings, is_bot = _apply_privacy(person, text, sender)
    errors = notes.validation_errors
    return _Event.__new__(
        _Event,
        partner_system_id=sender.key.partner_system_id,
        id=identity,
        event_name=name,
        event_timestamp=event_timestamp,
        original_timestamp=original or said,
        sent_at=sent_at,
        received_at=sender.received_at,
        user_id=user_id,
        anonymous_id=anonymous_id,
        message_id=client_id,
        event_properties=text,
        schema_version=version,
        is_valid=not errors,
        validation_errors=orjson.dumps(errors[:_MAX_ERRORS]) if errors else None,
        clock_adjusted=clock_adjusted,
        correlation_id=sender.correlation_id,
        event_type=kind,
        context=surroundings,
        is_bot=is_bot,
    )


def _is_too_old(identity: UUID, event_timestamp: datetime, raw_since: datetime) -> bool:
    """Return whether an event from before `raw_since`, or another one with its id, may have been dropped.

    Both times count. The read model drops events by their event timestamp, the write database by the time in their ids,
    which differs from it if the client's clock was wrong. An id without a time is never dropped.
    """
    return event_timestamp < raw_since or 0 < get_unix_ms(identity) < to_unix_ms(raw_since)


def _apply_privacy(
    person: PersonalData, text: bytes, sender: IngestContext
) -> tuple[tuple[str | None, str | None], bytes, bytes | None, bool]:
    """Return both ids, properties and context (as JSON text) as they may be kept, and whether a bot sent the event."""
    settings = sender.key.settings
    person, is_bot = apply_privacy(settings, sender.key.partner_system_id, person, sender.address, sender.user_agent)
    if settings.privacy_rules:
        text = orjson.dumps(person.properties or {})
    context = orjson.dumps(person.context) if person.context else None
    return (person.user_id, person.anonymous_id), text, context, is_bot


def _read_context(
    envelope: dict[str, Any], sender: IngestContext, beside_bytes: int, notes: EventErrors
) -> dict[str, Any] | Rejection | None:
    """Return the context, with the unknown members; the flags of the envelope are added."""
    context: dict[str, Any] | None = None
    if envelope.get("context") is not None:
        kept = normalize_object(envelope["context"], sender.event_bytes, notes, "context", beside_bytes)
        if isinstance(kept, Rejection):
            return kept
        context = kept[0]
    if not isinstance(envelope, FlaggedEnvelope):
        return context
    notes.add_flags(envelope.flags)
    if not envelope.unknown:
        return context
    has_rules = bool(sender.key.settings.privacy_rules)
    return keep_unknown(context, envelope.unknown, sender.event_bytes, beside_bytes, notes, has_privacy_rules=has_rules)


def _reject_value(value: Any) -> Rejection:
    """Reject an element that is not an object; one that is not JSON comes as a Rejection."""
    return value if isinstance(value, Rejection) else Rejection("invalid_event", "An event must be a JSON object.")


def _reject(name: str | None, actor: str | None, notes: EventErrors) -> Rejection:
    faulty = {fault["field"] for fault in notes.field_errors}
    if name is None and "eventName" not in faulty:
        notes.add_field_error("eventName", "required")
    if actor is None and not faulty & {"userId", "anonymousId"}:
        notes.add_field_error("anonymousId", "required when userId is missing")
    message = "; ".join(f"{fault['field']}: {fault['message']}" for fault in notes.field_errors)
    return Rejection("invalid_event", f"Not an event: {message}.", tuple(notes.field_errors))


def _validate(
    properties: Any,
    size_bytes: int,
    partner_id: UUID,
    name: str,
    version: int | None,
    structures: StructureIndex,
    notes: EventErrors,
) -> None:
    if notes.has_nul:
        notes.add_validation_error("nul_character", "U+0000, or half of a surrogate pair, was replaced by U+FFFD")
    try:
        structure = structures.find(partner_id, name, version)
    except Malformed as unknown:
        notes.add_validation_error(unknown.code, unknown.message)
        return
    if structure is not None:
        notes.validation_errors.extend(structures.get_validator(structure).find_errors(properties, size_bytes))
