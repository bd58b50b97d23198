"""Settings of one partner system: allowed origins, rate limit, IP policy and privacy rules.

This module only holds and checks the values; the gateway applies them. Wrong values raise Malformed, which names each
field as the administration shows it (`settings.allowedOrigins[2]`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from tracking.domain.errors import Malformed

IpPolicy = Literal["keep", "truncate", "drop"]
PrivacyAction = Literal["drop", "hash", "truncate"]
# a name, or None for every item of an array
PathSegment: TypeAlias = str | None

MAX_ORIGINS, MAX_ORIGIN_CHARACTERS, MAX_RULES, MAX_PATH_CHARACTERS = 50, 300, 50, 500
MAX_EVENTS_PER_SECOND, MAX_BURST_EVENTS = 1_000_000, 2_000_000
DEFAULT_LENGTH, MAX_TRUNCATE_CHARACTERS = 4, 1000
PRIVACY_PATH_ROOTS: Final = ("userId", "anonymousId", "properties", "context")
_OBJECTS = ("properties", "context")

# `.name` with what names of properties are made of in practice ($browser, user-email); all else as ['…'], where a
# backslash stands before ' and \ (RFC 9535, 2.3.1)
_STEP = re.compile(r"\.((?:[^\W\d]|\$)[\w$-]*)|\['((?:[^'\\\x00-\x1f\x7f\ud800-\udfff]|\\['\\])+)'\]|\[\*\]")

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*"
_SUBDOMAIN = re.compile(_HOST)
_ORIGIN = re.compile(rf"(https?)://(\*\.)?({_HOST}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?")
# a browser leaves these out of the Origin it sends (RFC 6454, 6.1)
_USUAL_PORTS = {"http": 80, "https": 443}
_NO_ORIGIN = "not an origin such as https://shop.example.com or https://*.example.com, without a path"

FieldErrorDict = dict[str, str]


def _malformed(errors: Sequence[FieldErrorDict]) -> Malformed:
    return Malformed("invalid_body", f"{errors[0]['field']}: {errors[0]['message']}.", errors)


def _is_whole(value: int | None, least: int, most: int) -> bool:
    # not isinstance: True is an int too
    return type(value) is int and least <= value <= most


@dataclass(frozen=True, slots=True)
class PrivacyRule:
    """Drops, hashes or truncates one value of an event before it is stored; truncating keeps `length` characters.

    `path` is a subset of JSON path: `$.userId`, `$.context.traits.email`, `$.properties.items[*].note`,
    `$.properties['a.b']`. `segments` is the same, split: the first is one of PRIVACY_PATH_ROOTS, None stands for `[*]`.
    The fields of Malformed are `path`, `action` and `length`; a list of rules puts the position before them.
    """

    path: str
    action: PrivacyAction
    length: int | None = None
    segments: tuple[PathSegment, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.action not in get_args(PrivacyAction):
            raise _malformed([{"field": "action", "message": f"must be one of {', '.join(get_args(PrivacyAction))}"}])
        if self.action == "truncate":
            if self.length is None:
                object.__setattr__(self, "length", DEFAULT_LENGTH)
            if not _is_whole(self.length, 1, MAX_TRUNCATE_CHARACTERS):
                raise _malformed(
                    [{"field": "length", "message": f"must be a whole number of 1 to {MAX_TRUNCATE_CHARACTERS}"}]
                )
        elif self.length is not None:
            raise _malformed([{"field": "length", "message": "only truncate has a length"}])
        try:
            object.__setattr__(self, "segments", _split_path(self.path, self.action))
        except ValueError as error:
            raise _malformed([{"field": "path", "message": str(error)}]) from error


def _split_path(path: str, action: PrivacyAction) -> tuple[PathSegment, ...]:
    """Split a path into its segments. Raises ValueError with a message that names the error."""
    if not isinstance(path, str) or not path.startswith("$") or len(path) > MAX_PATH_CHARACTERS:
        raise ValueError(f"must be a path such as $.properties.email, of at most {MAX_PATH_CHARACTERS} characters")
    segments: list[PathSegment] = []
    position = 1
    while position < len(path):
        step = _STEP.match(path, position)
        if step is None:
            raise ValueError(f"not readable from character {position + 1} on: expected .name, ['name'] or [*]")
        plain, quoted = step.groups()
        segments.append(re.sub(r"\\(.)", r"\1", quoted) if quoted else plain)
        position = step.end()
    if not segments or segments[0] not in PRIVACY_PATH_ROOTS:
        raise ValueError(f"must begin with {', '.join(f'$.{root}' for root in PRIVACY_PATH_ROOTS)}")
    if segments[0] not in _OBJECTS:
        if len(segments) > 1:
            raise ValueError(f"there is nothing within {segments[0]}")
    elif len(segments) == 1 and action != "drop":
        raise ValueError(f"{segments[0]} as a whole can only be dropped")
    elif len(segments) > 1 and segments[1] is None:
        raise ValueError(f"{segments[0]} is an object, not an array")
    return tuple(segments)


@dataclass(frozen=True, slots=True)
class SystemSettings:
    """The settings of one partner system.

    Without origins any origin is allowed, and without a rate there is no limit. The default burst is twice the rate. A
    burst may be smaller than a batch, so a limiter must admit a whole batch while the burst is unused.
    """

    allowed_origins: tuple[str, ...] = ()
    rate_limit_events_per_second: int | None = None
    rate_limit_burst: int | None = None
    ip_policy: IpPolicy = "truncate"
    privacy_rules: tuple[PrivacyRule, ...] = ()
    _exact: frozenset[str] = field(init=False, compare=False, repr=False)
    _wildcards: tuple[tuple[str, str], ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        origins, errors = _normalize_origins(self.allowed_origins)
        errors += self._check_rate_limit()
        if self.ip_policy not in get_args(IpPolicy):
            errors.append({"field": "settings.ipPolicy", "message": f"must be one of {', '.join(get_args(IpPolicy))}"})
        errors += _find_repeated_paths(self.privacy_rules)
        if errors:
            raise _malformed(errors)
        rate = self.rate_limit_events_per_second
        if rate is not None and self.rate_limit_burst is None:
            object.__setattr__(self, "rate_limit_burst", 2 * rate)
        wildcards = [origin.partition("*") for origin in origins if "*" in origin]
        object.__setattr__(self, "allowed_origins", origins)
        object.__setattr__(self, "_exact", frozenset(origin for origin in origins if "*" not in origin))
        object.__setattr__(self, "_wildcards", tuple((before, after) for before, _, after in wildcards))

    def allows_origin(self, origin: str) -> bool:
        """Return whether pages of `origin` (the header's value) may send events.

        `https://*.a.b` allows subdomains of every depth, but not `a.b` itself.
        """
        if not self.allowed_origins:
            return True
        origin = origin.lower()
        return origin in self._exact or any(
            origin.startswith(before)
            and origin.endswith(after)
            and _SUBDOMAIN.fullmatch(origin, len(before), len(origin) - len(after)) is not None
            for before, after in self._wildcards
        )

    def _check_rate_limit(self) -> list[FieldErrorDict]:
        rate, burst = self.rate_limit_events_per_second, self.rate_limit_burst
        if rate is None:
            message = "needs eventsPerSecond"
            return [] if burst is None else [{"field": "settings.rateLimit.burst", "message": message}]
        if not _is_whole(rate, 1, MAX_EVENTS_PER_SECOND):
            message = f"must be a whole number of 1 to {MAX_EVENTS_PER_SECOND}"
            return [{"field": "settings.rateLimit.eventsPerSecond", "message": message}]
        if burst is not None and not _is_whole(burst, rate, MAX_BURST_EVENTS):
            message = f"must be a whole number of at least eventsPerSecond and at most {MAX_BURST_EVENTS}"
            return [{"field": "settings.rateLimit.burst", "message": message}]
        return []


def _normalize_origins(given: Sequence[str]) -> tuple[tuple[str, ...], list[FieldErrorDict]]:
    """Return the valid origins once each, in lower case and without the default port, and the errors of the others."""
    if len(given) > MAX_ORIGINS:
        return (), [{"field": "settings.allowedOrigins", "message": f"at most {MAX_ORIGINS} origins"}]
    origins, errors = dict[str, None](), list[FieldErrorDict]()
    for number, origin in enumerate(given):
        try:
            origins[_normalize_origin(origin)] = None
        except ValueError as error:
            errors.append({"field": f"settings.allowedOrigins[{number}]", "message": str(error)})
    return tuple(origins), errors


def _normalize_origin(given: str) -> str:
    if given == "*":
        raise ValueError("for any origin leave the list empty")
    # by ASCII alone: some letters beyond it (the Kelvin sign) have their lower case within it
    match = _ORIGIN.fullmatch(given.lower()) if given.isascii() and len(given) <= MAX_ORIGIN_CHARACTERS else None
    if match is None:
        raise ValueError(_NO_ORIGIN + ("" if given.isascii() else "; write the host as a browser sends it, xn--…"))
    scheme, wildcard, host, port = match.groups()
    if wildcard and ("." not in host or host.rpartition(".")[2].isdigit()):
        raise ValueError("a wildcard stands before a domain of at least two names")
    if port is not None and not 1 <= int(port) <= 65535:
        raise ValueError("there is no such port")
    shown_port = "" if port is None or int(port) == _USUAL_PORTS[scheme] else f":{int(port)}"
    return f"{scheme}://{wildcard or ''}{host}{shown_port}"


def _find_repeated_paths(rules: Sequence[PrivacyRule]) -> list[FieldErrorDict]:
    if len(rules) > MAX_RULES:
        return [{"field": "settings.privacyRules", "message": f"at most {MAX_RULES} rules"}]
    places: dict[tuple[PathSegment, ...], int] = {}
    return [
        {"field": f"settings.privacyRules[{number}].path", "message": f"the same place as privacyRules[{first}]"}
        for number, rule in enumerate(rules)
        if (first := places.setdefault(rule.segments, number)) != number
    ]


# below the functions that it is made with
DEFAULT_SETTINGS: Final = SystemSettings()
