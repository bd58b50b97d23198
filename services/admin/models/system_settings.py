"""Settings of a partner system as they stand in bodies and responses."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, StrictInt, model_validator

from tracking.domain.errors import Malformed
from tracking.domain.system_settings import (
    DEFAULT_LENGTH,
    MAX_BURST_EVENTS,
    MAX_EVENTS_PER_SECOND,
    MAX_ORIGIN_CHARACTERS,
    MAX_ORIGINS,
    MAX_PATH_CHARACTERS,
    MAX_RULES,
    MAX_TRUNCATE_CHARACTERS,
    IpPolicy,
    PrivacyAction,
    PrivacyRule,
    SystemSettings,
)
from tracking.http.json_api import JsonModel


def _is_absent(value: Any) -> bool:
    return value is None


Origin = Annotated[str, Field(max_length=MAX_ORIGIN_CHARACTERS)]
Origins = Annotated[
    list[Origin],
    Field(
        max_length=MAX_ORIGINS,
        description="Pages that may send; none = any. A wildcard stands for subdomains of every depth.",
        examples=[["https://shop.example.com", "https://*.example.org"]],
    ),
]
Ip = Annotated[
    IpPolicy,
    Field(
        description="What is kept of an address: all of it, without its last part, or nothing.", examples=["truncate"]
    ),
]


class RateLimit(JsonModel):
    """How fast the keys of the system may send, together."""

    events_per_second: Annotated[StrictInt, Field(ge=1, le=MAX_EVENTS_PER_SECOND, examples=[500])]
    burst: Annotated[
        StrictInt | None,
        Field(
            ge=1,
            le=MAX_BURST_EVENTS,
            description="At once, after a pause; twice the rate unless given.",
            examples=[1000],
        ),
    ] = None


class PrivacySetting(JsonModel):
    """Drops, hashes or truncates one value of an event before it is stored."""

    path: Annotated[
        str,
        Field(
            max_length=MAX_PATH_CHARACTERS,
            description="Within userId, anonymousId, properties or context; [*] for every item of an array, "
            "['…'] for names with a dot.",
            examples=["$.properties.email"],
        ),
    ]
    action: Annotated[PrivacyAction, Field(examples=["truncate"])]
    length: Annotated[
        StrictInt | None,
        Field(
            ge=1,
            le=MAX_TRUNCATE_CHARACTERS,
            description=f"How many characters truncate keeps; {DEFAULT_LENGTH} unless given.",
            exclude_if=_is_absent,
            examples=[DEFAULT_LENGTH],
        ),
    ] = None


Rules = Annotated[list[PrivacySetting], Field(max_length=MAX_RULES)]


class SettingsChange(JsonModel):
    """A field that is left out stays; a given list replaces the present one; rateLimit null is no limit."""

    allowed_origins: Origins | None = None
    rate_limit: RateLimit | None = None
    ip_policy: Ip | None = None
    privacy_rules: Rules | None = None

    @model_validator(mode="before")
    @classmethod
    def read_empty_array(cls, value: Any) -> Any:
        """Return {} for `[]`, which is how PHP writes an object without members."""
        return {} if value == [] else value

    def apply_to(self, settings: SystemSettings) -> SystemSettings:
        """Return `settings` with the fields of this change replaced. Raises Malformed, with an error for each field."""
        values: dict[str, Any] = {}
        if self.allowed_origins is not None:
            values["allowed_origins"] = tuple(self.allowed_origins)
        if "rate_limit" in self.model_fields_set:
            values["rate_limit_events_per_second"] = self.rate_limit and self.rate_limit.events_per_second
            values["rate_limit_burst"] = self.rate_limit and self.rate_limit.burst
        if self.ip_policy is not None:
            values["ip_policy"] = self.ip_policy
        if self.privacy_rules is not None:
            values["privacy_rules"] = _parse_rules(self.privacy_rules)
        return replace(settings, **values)


def _parse_rules(given: list[PrivacySetting]) -> tuple[PrivacyRule, ...]:
    rules: list[PrivacyRule] = []
    errors: list[dict[str, str]] = []
    for number, rule in enumerate(given):
        try:
            rules.append(PrivacyRule(rule.path, rule.action, rule.length))
        except Malformed as error:
            place = f"settings.privacyRules[{number}]"
            errors += [{**detail, "field": f"{place}.{detail['field']}"} for detail in error.details]
    if errors:
        raise Malformed("invalid_body", f"{errors[0]['field']}: {errors[0]['message']}.", errors)
    return tuple(rules)


class SettingsAnswer(JsonModel):
    """The settings of a partner system; rateLimit null is no limit."""

    allowed_origins: Origins
    rate_limit: RateLimit | None
    ip_policy: Ip
    privacy_rules: Rules

    @model_validator(mode="before")
    @classmethod
    def _read_settings(cls, value: Any) -> Any:
        if not isinstance(value, SystemSettings):
            return value
        rate = value.rate_limit_events_per_second
        return {
            "allowed_origins": list(value.allowed_origins),
            "rate_limit": None if rate is None else {"events_per_second": rate, "burst": value.rate_limit_burst},
            "ip_policy": value.ip_policy,
            "privacy_rules": list(value.privacy_rules),
        }
