"""Converts the messages of Segment and RudderStack SDKs to envelopes, without IO.

The rules are those of the SDKs themselves: the type of a message is in the path or in the message, traits are at its
top level or in its context, ids may be numbers, and one bad message never affects the rest of its batch.
"""

from collections.abc import Mapping
from typing import Any

from services.gateway.events.envelope import FlaggedEnvelope
from services.gateway.events.members import adopt_members, find_key, share_members
from services.gateway.events.rejection import Rejection
from tracking.domain.tracking_event import EVENT_TYPES

EVENT_TYPE_BY_PATH: Mapping[str, str] = {event_type: event_type for event_type in EVENT_TYPES} | {
    event_type[0]: event_type for event_type in EVENT_TYPES
}
"""`track` and `t` → track, and so on: the last part of a path, and the type of its messages."""
# RudderStack's message that says which values belong to one person; no event type of its own is stored
MERGE = "merge"
IMPORT = "import"
"""The path of archives."""
BATCH_PATHS = ("batch", "b", IMPORT)
# Members that SDKs and their servers write for each other; they say nothing about the event.
_PROTOCOL = frozenset(
    {
        "_metadata",
        "channel",
        "historical",
        "integrations",
        "library",
        "metadata",
        "originalTimestamp",
        "projectId",
        "receivedAt",
        "rudderId",
        "sentAt",
        "timestamp",
        "type",
        "version",
        "writeKey",
    }
)
_BATCH_MEMBERS = _PROTOCOL | {"batch", "messageId"}
_IN_MESSAGES = _PROTOCOL | {"anonymousId", "context", "messageId", "userId"}
_OF_TYPE = {
    "track": {"event", "properties"},
    "page": {"category", "name", "properties"},
    "screen": {"category", "name", "properties"},
    "identify": {"traits"},
    "group": {"groupId", "traits"},
    "alias": {"previousId", "traits"},
}
_MEMBERS_BY_TYPE = {event_type: _IN_MESSAGES | names for event_type, names in _OF_TYPE.items()}
_NAMES = {"eventTimestamp": "timestamp", "eventId": "messageId", "eventType": "", "schemaVersion": ""}
_NAMES_BY_TYPE = {
    event_type: {
        **_NAMES,
        "eventProperties": "properties" if "properties" in names else "traits",
        "eventName": "event" if event_type == "track" else "name",
    }
    for event_type, names in _OF_TYPE.items()
}


def read_sdk_messages(body: Any, event_type: str | None) -> tuple[list[Any], Any, Any]:
    """Return the messages of a request's body, its `sentAt` and its key.

    `event_type` is that of the path, None for a batch. A batch may also be an array, and one message alone may be sent
    to a batch path, as some SDKs do.
    """
    if isinstance(body, list) and event_type is None:
        return body, None, find_key(body)
    if not isinstance(body, dict):
        return [body], None, None
    if event_type is None and isinstance(body.get("batch"), list):
        messages = body["batch"]
        if not _BATCH_MEMBERS.issuperset(body):
            messages = share_members(messages, body, _BATCH_MEMBERS)
        return messages, body.get("sentAt"), find_key(body)
    return [body], body.get("sentAt"), find_key(body)


def is_historical(value: Any) -> bool:
    """Return whether a batch or an event says that it is of an archive, so that no clock is to be corrected."""
    return isinstance(value, dict) and value.get("historical") in (True, "true")


def to_envelope(message: Any, event_type: str | None) -> dict[str, Any] | Rejection:
    """Return `message` as an envelope for `decide`, or a Rejection if it is not a message or its type is unknown."""
    if not isinstance(message, dict):
        if isinstance(message, Rejection):
            return message  # an element that is not JSON
        return Rejection("invalid_event", "A message must be a JSON object.")
    event_type = event_type or message.get("type")
    if event_type == MERGE:
        message = _from_merge(message)
        event_type = message["type"]
    if not isinstance(event_type, str) or event_type not in EVENT_TYPES:
        fault = {"field": "type", "message": f"must be one of {', '.join(EVENT_TYPES)}"}
        return Rejection("invalid_event", f"Not an event: type: {fault['message']}.", (fault,))
    if not _MEMBERS_BY_TYPE[event_type].issuperset(message):
        message = _adopt(message, event_type)
    context = message.get("context")
    envelope = {
        "eventName": message.get("event") if event_type == "track" else event_type,
        "eventType": event_type,
        "eventTimestamp": message.get("timestamp") or message.get("originalTimestamp"),
        "sentAt": message.get("sentAt"),
        "userId": _id(message.get("userId")),
        "anonymousId": _id(message.get("anonymousId")),
        "messageId": _id(message.get("messageId")),
        "eventProperties": _properties(message, event_type, context if isinstance(context, dict) else {}),
        "context": context,
    }
    if message.get("timestamp") and "originalTimestamp" in message:
        envelope["originalTimestamp"] = message["originalTimestamp"]
    for name in ("receivedAt", "historical"):
        if name in message:
            envelope[name] = message[name]
    return message.replace(envelope, {}) if isinstance(message, FlaggedEnvelope) else envelope


def _adopt(message: dict[str, Any], event_type: str) -> FlaggedEnvelope:
    """Return the message with members of other names under their own, and what its type does not have as unknown.

    SDKs write members of other types as well, with empty values, or with the type or the page's name as the event's.
    Traits of a type that has none are the person's, whose place is the context, unless the context has some.
    """
    known = _MEMBERS_BY_TYPE[event_type]
    said: tuple[Any, ...] = ("", [], {}, event_type, message.get("name"))
    members = {name: value for name, value in message.items() if name in known or value not in said}
    context = members.get("context") or {}
    if "traits" not in known and "traits" in members and isinstance(context, dict) and "traits" not in context:
        members["context"] = {**context, "traits": members.pop("traits")}
    if isinstance(message, FlaggedEnvelope):
        members = message.replace(members, {})
    return adopt_members(members, known, _NAMES_BY_TYPE[event_type])


def _from_merge(message: dict[str, Any]) -> dict[str, Any]:
    """Return a merge as an alias if it names a user id and another id, else as a track event named merge.

    `mergeProperties` is a list of `{type, value}`. Other types (an e-mail address, a phone) are values that many people
    may share, so they are kept as properties and link nobody.
    """
    given = message.get("mergeProperties")
    named = [pair for pair in given if isinstance(pair, dict)] if isinstance(given, list) else []
    pairs = [(pair.get("type"), pair.get("value")) for pair in named]
    users = [value for kind, value in pairs if kind in ("userId", "user_id")]
    visitors = [value for kind, value in pairs if kind in ("anonymousId", "anonymous_id")]
    properties = {"mergeProperties": given}
    if users and len(users) + len(visitors) == 2:
        previous_id = visitors[0] if visitors else users[1]
        changed = {"type": "alias", "userId": users[0], "previousId": previous_id, "traits": properties}
        return _change(message, changed)
    first = next((value for _, value in pairs if isinstance(value, str) and value), None)
    actor = {} if message.get("userId") or message.get("anonymousId") else {"userId": first}
    return _change(message, {**actor, "type": "track", "event": MERGE, "properties": properties})


def _change(message: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    members = {name: value for name, value in message.items() if name != "mergeProperties"} | changed
    return message.replace(members, {}) if isinstance(message, FlaggedEnvelope) else members


def _id(value: Any) -> Any:
    """Return an id as text: SDKs in other languages send numbers as ids."""
    return str(value) if type(value) in (int, float) else value


def _object(value: Any) -> Any:
    """Return None for an empty array, which is how PHP writes an object without members."""
    return None if value == [] else value


def _properties(message: dict[str, Any], event_type: str, context: dict[str, Any]) -> Any:
    """Return the properties or traits of the message, with the name of a page, the group and the earlier id."""
    if event_type in ("track", "page", "screen"):
        properties = _object(message.get("properties"))
        extra = {} if event_type == "track" else {name: message.get(name) for name in ("name", "category")}
    else:
        traits = _object(message.get("traits"))
        properties = traits if traits is not None or event_type == "group" else context.get("traits")
        extra = {
            "group": {"groupId": _id(message.get("groupId"))},
            "alias": {"previousId": _id(message.get("previousId"))},
        }.get(event_type, {})
    extra = {name: value for name, value in extra.items() if value is not None}
    if not extra:
        return properties
    if properties is None:
        return extra
    # A property that the sender set under the same name is kept; a value that is not an object is flagged later.
    return {**extra, **properties} if isinstance(properties, dict) else properties
