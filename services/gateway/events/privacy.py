"""Removes personal data from an event by the settings of its system, before anything is stored.

The event is validated against its schema first, so that a privacy rule cannot make an event invalid.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from uuid import UUID

import orjson

from services.gateway.events.bots import is_bot
from tracking.domain.placeholder_ids import is_placeholder_id
from tracking.domain.system_settings import IpPolicy, PathSegment, PrivacyRule, SystemSettings

# A placeholder there says nothing about a person, and its hash would pass for an id.
_ID_PATHS = frozenset({("userId",), ("anonymousId",), ("properties", "previousId")})
_KEPT_BITS = {4: 24, 6: 48}
_HASH_BYTES = 16
_DROPPED = object()


@dataclass(frozen=True, slots=True)
class PersonalData:
    """The parts of an event that may contain personal data, with JSON as objects."""

    user_id: str | None
    anonymous_id: str | None
    properties: Any
    context: Any


def apply_ip_policy(address: str, policy: IpPolicy) -> str | None:
    """Return the address as it may be kept: whole, or its network (/24, /48); None if neither, or if it is invalid."""
    if policy == "drop":
        return None
    try:
        parsed = ip_address(address.strip().strip("[]"))
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if policy == "keep":
        return str(parsed)
    return str(ip_network((parsed, _KEPT_BITS[parsed.version]), strict=False).network_address)


def apply_privacy(
    settings: SystemSettings, partner_system_id: UUID, event: PersonalData, address: str | None, user_agent: str | None
) -> tuple[PersonalData, bool]:
    """Return `event` as it may be stored, and whether a bot sent it.

    `address` and `user_agent` are those of a browser. They are written to the context if the SDK sent none.
    """
    context: Any = event.context
    if address is not None and context is None:
        context = {}
    is_sent_by_bot = False
    if isinstance(context, dict):
        said = context.get("ip")
        ip = said if isinstance(said, str) else address
        kept = apply_ip_policy(ip, settings.ip_policy) if ip is not None else None
        if kept is not None:
            context["ip"] = kept
        else:
            context.pop("ip", None)
        if user_agent is not None:
            context.setdefault("userAgent", user_agent)
        agent = context.get("userAgent")
        is_sent_by_bot = isinstance(agent, str) and is_bot(agent)
    event = PersonalData(event.user_id, event.anonymous_id, event.properties, context)
    if settings.privacy_rules:
        event = apply_privacy_rules(settings, partner_system_id, event)
    return event, is_sent_by_bot


def apply_privacy_rules(settings: SystemSettings, partner_system_id: UUID, event: PersonalData) -> PersonalData:
    """Return `event` after the rules of its system were applied in their order; objects are changed in place."""
    tree = {
        "userId": event.user_id,
        "anonymousId": event.anonymous_id,
        "properties": event.properties,
        "context": event.context,
    }
    for rule in settings.privacy_rules:
        _walk(tree, rule.segments, _change(rule, partner_system_id))
    return PersonalData(tree.get("userId"), tree.get("anonymousId"), tree.get("properties"), tree.get("context"))


Transform = Callable[[Any], Any]


def _change(rule: PrivacyRule, partner_system_id: UUID) -> Transform:
    if rule.action == "drop":
        return lambda value: _DROPPED
    keeps_placeholders = tuple(rule.segments) in _ID_PATHS

    def change(value: Any) -> Any:
        if value is None or (keeps_placeholders and isinstance(value, str) and is_placeholder_id(value)):
            return value
        text = _text(value)
        return text[: rule.length] if rule.action == "truncate" else _hashed(text, partner_system_id)

    return change


def _hashed(text: str, partner_system_id: UUID) -> str:
    # The hash is keyed by the system: within it, equal values have equal hashes, and precomputed lists of hashes do
    # not match.
    data = text.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=_HASH_BYTES, key=partner_system_id.bytes).hexdigest()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _walk(parent: Any, steps: tuple[PathSegment, ...], change: Transform) -> None:
    step, rest = steps[0], steps[1:]
    if step is None:
        if not isinstance(parent, list):
            return
        places: list[Any] = list(range(len(parent)))
    elif isinstance(parent, dict) and step in parent:
        places = [step]
    else:
        return
    if rest:
        for place in places:
            _walk(parent[place], rest, change)
        return
    # Lists are processed from the end, so that dropping an element does not move those that are still to be processed.
    for place in reversed(places):
        changed = change(parent[place])
        if changed is _DROPPED:
            del parent[place]
        else:
            parent[place] = changed
