"""Finds the members of an envelope under their other names, and keeps those that an event does not have.

`properties`, `event_properties` and `EventProperties` are evidently what is called `eventProperties` here. Such a
member is taken if the envelope has none of the right name. Any other member is kept in the context under `$unknown`,
and the event is flagged `unknown_member`, so that nothing is dropped in silence.
"""

from collections.abc import Callable, Mapping, Set
from typing import Any

import orjson

from services.gateway.events.envelope import FlaggedEnvelope
from services.gateway.events.properties import normalize_object
from services.gateway.events.rejection import EventErrors
from tracking.domain.tracking_event import EVENT_TYPES

UNKNOWN = "$unknown"
EVENT_MEMBERS = frozenset(
    {
        "apiKey",
        "context",
        "eventId",
        "eventName",
        "eventProperties",
        "eventTimestamp",
        "eventType",
        "anonymousId",
        "historical",
        "messageId",
        "originalTimestamp",
        "receivedAt",
        "schemaVersion",
        "sentAt",
        "userId",
    }
)
_MAX_NAME_CHARACTERS = 40
_MAX_SHOWN_CHARACTERS = 200
# A member of a batch stands for each of its events, so a large one would be written thousands of times.
_MAX_SHARED_BYTES = 8 * 1024
# Secrets are neither kept nor named.
_KEYS = frozenset({"apikey", "writekey"})
_IN_CONTEXT = {"ip": "ip", "useragent": "userAgent"}

_Check = Callable[[Any], bool]


def find_key(value: Any) -> str | None:
    """Return the API key that a decoded body names: `apiKey` or `writeKey`, of an array in its first element."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return None
    return next((key for name in ("apiKey", "writeKey") if isinstance(key := value.get(name), str)), None)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_id(value: Any) -> bool:
    return type(value) in (str, int)


def _is_time(value: Any) -> bool:
    return type(value) in (str, int, float)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict | str) or value == []


def _is_number(value: Any) -> bool:
    return type(value) is int


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and value in EVENT_TYPES


# by the name in lower case, without underscores and hyphens; of several members the first of this list is taken
_OTHER_NAMES: Mapping[str, tuple[str, _Check]] = {
    "eventname": ("eventName", _is_text),
    "event": ("eventName", _is_text),
    "eventtimestamp": ("eventTimestamp", _is_time),
    "timestamp": ("eventTimestamp", _is_time),
    "originaltimestamp": ("eventTimestamp", _is_time),
    "eventtime": ("eventTimestamp", _is_time),
    "time": ("eventTimestamp", _is_time),
    "eventproperties": ("eventProperties", _is_object),
    "properties": ("eventProperties", _is_object),
    "props": ("eventProperties", _is_object),
    "userid": ("userId", _is_id),
    "anonymousid": ("anonymousId", _is_id),
    "eventid": ("eventId", _is_id),
    "messageid": ("messageId", _is_id),
    "sentat": ("sentAt", _is_time),
    "schemaversion": ("schemaVersion", _is_number),
    "eventtype": ("eventType", _is_type),
    "type": ("eventType", _is_type),
    "context": ("context", _is_object),
}
_RANK = {name: rank for rank, name in enumerate(_OTHER_NAMES)}


def normalize_name(name: str) -> str:
    """Return the name without what differs between the ways of writing it: case, underscores, hyphens."""
    return name[:_MAX_NAME_CHARACTERS].replace("_", "").replace("-", "").lower()


def adopt_members(
    envelope: dict[str, Any], known: Set[str] = EVENT_MEMBERS, own_names: Mapping[str, str] | None = None
) -> FlaggedEnvelope:
    """Return the envelope with members of other names under their own, if these are missing, and the rest as unknown.

    `own_names` are the names of members where they differ from those of an event, as in messages of SDKs.
    """
    members = {name: value for name, value in envelope.items() if name in known}
    others = {name: value for name, value in envelope.items() if name not in known and value is not None}
    unknown: dict[str, Any] = {}
    for name in sorted(others, key=_get_rank):
        plain, value = normalize_name(name), others[name]
        if plain in _KEYS:
            continue
        own, is_plausible = _OTHER_NAMES.get(plain, ("", _is_text))
        own = (own_names or {}).get(own, own)
        if own in known and members.get(own) in (None, "") and is_plausible(value):
            members[own] = value
        else:
            unknown[name] = value
    if isinstance(envelope, FlaggedEnvelope):
        return envelope.replace(members, unknown)
    return FlaggedEnvelope(members, unknown=unknown)


def _get_rank(name: str) -> int:
    return _RANK.get(normalize_name(name), len(_RANK))


def share_members(envelopes: list[Any], batch: Mapping[str, Any], known: Set[str]) -> list[Any]:
    """Return the envelopes of a batch with the batch's own context, and with its members that are not `known`."""
    context = batch.get("context")
    unknown = {
        name: value
        for name, value in batch.items()
        if name not in known and value not in (None, "", [], {}) and normalize_name(name) not in _KEYS
    }
    if isinstance(context, dict):
        unknown.pop("context", None)
        if not context:
            context = None
        elif _is_too_large(context):
            unknown["context"], context = "", None
    else:
        context = None
    if context is None and not unknown:
        return envelopes
    unknown = {name: "" if _is_too_large(value) else value for name, value in unknown.items()}
    return [_share(envelope, context, unknown) if isinstance(envelope, dict) else envelope for envelope in envelopes]


def _share(envelope: dict[str, Any], context: dict[str, Any] | None, unknown: Mapping[str, Any]) -> dict[str, Any]:
    own = envelope.get("context")
    if context is not None and (not own or isinstance(own, dict)):
        envelope["context"] = {**context, **(own or {})}
    if not unknown:
        return envelope
    if isinstance(envelope, FlaggedEnvelope):
        return envelope.replace(envelope, unknown)
    return FlaggedEnvelope(envelope, unknown=unknown)


def _is_too_large(value: Any) -> bool:
    try:
        return len(orjson.dumps(value)) > _MAX_SHARED_BYTES
    except orjson.JSONEncodeError:
        return True


def keep_unknown(
    context: dict[str, Any] | None,
    unknown: Mapping[str, Any],
    max_bytes: int,
    beside_bytes: int,
    notes: EventErrors,
    *,
    has_privacy_rules: bool,
) -> dict[str, Any] | None:
    """Return the context with the unknown members, each of which flags the event.

    They are not kept if they do not fit, or if the system has privacy rules, which say nothing about them. An address
    and a User-Agent are taken as those of the context, to which the IP policy applies.
    """
    kept, rest = dict(context or {}), {}
    for name, value in unknown.items():
        in_context = _IN_CONTEXT.get(normalize_name(name))
        if in_context is not None and isinstance(value, str) and kept.get(in_context) in (None, value):
            kept[in_context] = value
        elif in_context != "ip":
            rest[name] = value
        else:
            _flag(name, "is a second address, which is not kept", notes)
    if not rest:
        return kept or context
    if has_privacy_rules:
        normalized: Any = None
    else:
        normalized = normalize_object({**kept, UNKNOWN: rest}, max_bytes, notes, "context", beside_bytes)
    is_kept = isinstance(normalized, tuple)
    for name in rest:
        _flag(name, f"is kept in context.{UNKNOWN}" if is_kept else "is not kept", notes)
    found: dict[str, Any] | None = normalized[0] if is_kept else kept or context
    return found


def _flag(name: str, what: str, notes: EventErrors) -> None:
    shown = name[:_MAX_SHOWN_CHARACTERS].replace("\x00", "\ufffd")
    path = "/" + shown.replace("~", "~0").replace("/", "~1")
    notes.add_validation_error("unknown_member", f"An event has no member {shown!r}; it {what}.", path)
