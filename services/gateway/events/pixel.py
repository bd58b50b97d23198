"""Reads the query of the pixel route as a message of an SDK."""

import re
from typing import Any
from urllib.parse import parse_qsl

from services.gateway.events.members import normalize_name
from tracking.domain.errors import Malformed

_MAX_PARAMETERS = 200
_PREFIX = re.compile(r"^(?:properties|traits)\.(?=.)")
_KEYS = frozenset({"apiKey", "writeKey", "dryRun"})
_FIELDS = {
    "type": "type",
    "event": "event",
    "eventName": "event",
    "name": "name",
    "category": "category",
    "userId": "userId",
    "anonymousId": "anonymousId",
    "previousId": "previousId",
    "groupId": "groupId",
    "messageId": "messageId",
    "eventId": "messageId",
    "timestamp": "timestamp",
    "eventTimestamp": "timestamp",
    "sentAt": "sentAt",
}
_OTHER_NAMES = {normalize_name(name): field for name, field in _FIELDS.items()}
# A field is one of messages of these types alone.
_ONLY_OF_TYPES = {
    "event": ("track",),
    "name": ("page", "screen"),
    "category": ("page", "screen"),
    "previousId": ("alias",),
    "groupId": ("group",),
}


def parse_pixel_query(query: bytes, referrer: str | None = None, event_type: str | None = None) -> dict[str, Any]:
    """Parse the query of a pixel as a message of an SDK. Raises Malformed if it has too many parameters.

    A parameter that is not a field of a message becomes a property with a text, or with a list if it is given several
    times; `properties.color` and `traits.color` are `color`, as RudderStack writes them. Of a field that is given
    several times the first value counts, and the others become properties, as does a field that the type of the message
    does not have. Bytes that are not UTF-8 become U+FFFD. `event_type` is that
    of the path, if the path has one.
    """
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=_MAX_PARAMETERS
        )
    except ValueError as error:
        raise Malformed("invalid_parameters", f"More than {_MAX_PARAMETERS} query parameters.") from error
    message: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for name, value in pairs:
        field = _FIELDS.get(name) or _OTHER_NAMES.get(normalize_name(name))
        if field is not None and field not in message:
            message[field] = value
        elif name not in _KEYS and (field is None or message[field] != value):
            name = _PREFIX.sub("", name, count=1)
            before = properties.get(name)
            if before is None:
                properties[name] = value
            elif isinstance(before, list):
                before.append(value)
            else:
                properties[name] = [before, value]
    message["type"] = event_type or message.get("type") or ("track" if "event" in message else "page")
    for field, event_types in _ONLY_OF_TYPES.items():
        if field in message and message["type"] not in event_types:
            properties.setdefault(field, message.pop(field))
    message["properties" if message["type"] in ("track", "page", "screen") else "traits"] = properties
    if referrer:
        message["context"] = {"page": {"url": referrer}}
    return message
