"""The calls that every SDK makes, and the events that must be found afterwards. No IO.

A call is what a user of an SDK would write, by name: `{"kind": "track", "number": 6, "userId": "user-6", "event": …}`.
A runner turns it into its SDK's own function call.
"""

from collections.abc import Mapping
from typing import Any

Call = Mapping[str, Any]
_KINDS = ("track", "page", "screen", "identify", "group", "alias")
_PEOPLE = 40
SHORTEST = 2 * len(_KINDS)


def calls(number: int, without: frozenset[str] = frozenset(), *, can_be_known: bool = True) -> list[Call]:
    """That many, of all types in turn but those `without`. In every other round nobody is known until identify.

    If nobody `can_be_known` before, that is so in every round. `SHORTEST` of them have one of each.
    """
    kinds = [kind for kind in _KINDS if kind not in without]
    return [_call(n, kinds[n % len(kinds)], n // len(kinds), can_be_known=can_be_known) for n in range(number)]


def _call(n: int, kind: str, session: int, *, can_be_known: bool) -> Call:
    person = session % _PEOPLE
    is_anonymous = session % 2 == 1 or not can_be_known
    known = {"kind": kind, "number": n, "userId": f"user-{person}", "anonymousId": f"visitor-{person}"}
    values = {"n": n, "total": n / 4, "currency": "EUR", "note": "Zürich ✓", "items": [{"sku": f"sku-{n}"}]}
    match kind:
        case "identify":
            return known | {"traits": values | {"plan": "pro"}}
        case "group":
            return known | {"groupId": f"group-{n % 5}", "traits": values | {"employees": 7}}
        case "alias":
            # there is no other place for the number in it, and not all SDKs let it have an anonymous id
            return {"kind": kind, "number": n, "userId": f"user-alias-{n}", "previousId": f"visitor-alias-{n}"}
        case "track":
            told = {"event": f"Order {'Completed' if n % 4 else 'Cancelled'}", "properties": values}
        case _:
            told = {"name": f"Name {n % 3}", "category": "Docs", "properties": values}
    return known | told | ({"userId": None} if is_anonymous else {})


def event_name(call: Call) -> str:
    """Return the event's name in lists and in statistics."""
    return str(call["event"] if call["kind"] == "track" else call["kind"])


def differences(call: Call, event: Mapping[str, Any]) -> list[str]:
    """Fields of a stored event (as query shows it) that are not what the call said.

    An SDK may add properties of its own, and an anonymous id where it was given none.
    """
    wanted = {"eventName": event_name(call), "eventType": call["kind"], "userId": call["userId"]}
    if "anonymousId" in call:
        wanted["anonymousId"] = call["anonymousId"]
    wanted |= {"isValid": True, "isBot": False}
    found = [f"{field}: {event[field]!r}, not {value!r}" for field, value in wanted.items() if event[field] != value]
    properties = event["eventProperties"] or {}
    for field, value in _properties(call).items():
        if properties.get(field) != value:
            found.append(f"eventProperties.{field}: {properties.get(field)!r}, not {value!r}")
    if not (event["context"] or {}).get("library", {}).get("name"):
        found.append("context.library.name: nothing")
    return found


def _properties(call: Call) -> dict[str, Any]:
    extra = {field: call[field] for field in ("name", "category", "groupId", "previousId") if field in call}
    return {**call.get("properties", call.get("traits", {})), **extra}
