"""Reads what Segment and RudderStack SDKs send, as envelopes of our own. No IO.

The rules are those of the SDKs themselves: the type of a message is in the path or in it, traits are at its top or in
its context, ids may be numbers, and one bad message never spoils its batch.
"""

from collections.abc import Mapping
from typing import Any

from services.gateway.events.rejection import Rejection
from tracking.domain.tracking_event import EVENT_TYPES

EVENT_TYPE_BY_PATH: Mapping[str, str] = {kind: kind for kind in EVENT_TYPES} | {kind[0]: kind for kind in EVENT_TYPES}
"""`track` and `t` → track, and so on: the last part of a path, and the type of its messages."""
BATCH_PATHS = ("batch", "b", "import")


def read_sdk_messages(body: Any, kind: str | None) -> tuple[list[Any], Any, Any]:
    """The messages of a request's body, its `sentAt` and its `writeKey`; `kind` is that of the path, None for a batch.

    A batch may also be a bare array, and a batch path may be given one message alone, as some SDKs do.
    """
    if isinstance(body, list) and kind is None:
        return body, None, None
    if not isinstance(body, dict):
        return [body], None, None
    if kind is None and isinstance(body.get("batch"), list):
        return body["batch"], body.get("sentAt"), body.get("writeKey")
    return [body], body.get("sentAt"), body.get("writeKey")


def to_envelope(message: Any, kind: str | None) -> dict[str, Any] | Rejection:
    """`message` as an envelope for `ingest.decide`; Refused if it is none or its type is unknown."""
    if not isinstance(message, dict):
        return Rejection("invalid_event", "A message must be a JSON object.")
    kind = kind or message.get("type")
    if not isinstance(kind, str) or kind not in EVENT_TYPES:
        fault = {"field": "type", "message": f"must be one of {', '.join(EVENT_TYPES)}"}
        return Rejection("invalid_event", f"Not an event: type: {fault['message']}.", (fault,))
    context = message.get("context")
    return {
        "eventName": message.get("event") if kind == "track" else kind,
        "eventType": kind,
        "eventTimestamp": message.get("timestamp") or message.get("originalTimestamp"),
        "sentAt": message.get("sentAt"),
        "userId": _id(message.get("userId")),
        "anonymousId": _id(message.get("anonymousId")),
        "messageId": _id(message.get("messageId")),
        "eventProperties": _properties(message, kind, context if isinstance(context, dict) else {}),
        "context": context,
    }


def _id(value: Any) -> Any:
    """SDKs in other languages send numbers as ids."""
    return str(value) if type(value) in (int, float) else value


def _properties(message: dict[str, Any], kind: str, context: dict[str, Any]) -> Any:
    """What the message says about itself: properties, or traits; with the name of a page, the group, the earlier id."""
    if kind in ("track", "page", "screen"):
        properties = message.get("properties")
        extra = {} if kind == "track" else {name: message.get(name) for name in ("name", "category")}
    else:
        traits = message.get("traits")
        properties = traits if traits is not None or kind == "group" else context.get("traits")
        extra = {
            "group": {"groupId": _id(message.get("groupId"))},
            "alias": {"previousId": _id(message.get("previousId"))},
        }.get(kind, {})
    extra = {name: value for name, value in extra.items() if value is not None}
    if not extra:
        return properties
    if properties is None:
        return extra
    # what the sender put there under the same name is the sender's; anything but an object is flagged as it is
    return {**extra, **properties} if isinstance(properties, dict) else properties
