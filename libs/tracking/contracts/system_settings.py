"""A partner system's settings as JSON, as stored in `write.partner_systems.settings` and in Redis.

The keys are those of admin's API. Only values that differ from the defaults are written, so `{}` means the defaults.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from tracking.domain.errors import Malformed
from tracking.domain.system_settings import DEFAULT_SETTINGS, PrivacyRule, SystemSettings


def encode_settings(settings: SystemSettings) -> bytes:
    """Encode the settings for a jsonb column, or as a part of a larger JSON document."""
    value: dict[str, Any] = {}
    if settings.allowed_origins:
        value["allowedOrigins"] = settings.allowed_origins
    if settings.rate_limit_events_per_second is not None:
        value["rateLimit"] = {
            "eventsPerSecond": settings.rate_limit_events_per_second,
            "burst": settings.rate_limit_burst,
        }
    if settings.ip_policy != DEFAULT_SETTINGS.ip_policy:
        value["ipPolicy"] = settings.ip_policy
    if settings.privacy_rules:
        value["privacyRules"] = [_rule_as_json(rule) for rule in settings.privacy_rules]
    return orjson.dumps(value)


def _rule_as_json(rule: PrivacyRule) -> dict[str, Any]:
    value: dict[str, Any] = {"path": rule.path, "action": rule.action}
    return value if rule.length is None else {**value, "length": rule.length}


def decode_settings(data: bytes | str) -> SystemSettings:
    """Decode settings from JSON text.

    Raises ValueError for anything that `encode_settings` cannot have written, which only a bug or a manual change can
    cause.
    """
    return parse_settings(orjson.loads(data))


def parse_settings(value: Mapping[str, Any]) -> SystemSettings:
    """Build settings from decoded JSON. Unknown members are ignored, because a newer admin may write more."""
    try:
        limit = value.get("rateLimit") or {}
        return SystemSettings(
            allowed_origins=tuple(value.get("allowedOrigins", ())),
            rate_limit_events_per_second=limit.get("eventsPerSecond"),
            rate_limit_burst=limit.get("burst"),
            ip_policy=value.get("ipPolicy", DEFAULT_SETTINGS.ip_policy),
            privacy_rules=tuple(
                PrivacyRule(rule["path"], rule["action"], rule.get("length")) for rule in value.get("privacyRules", ())
            ),
        )
    except (AttributeError, KeyError, TypeError, Malformed) as error:
        raise ValueError(f"not the settings of a system: {error}") from error
