"""The values of `format` that are checked, each in time that grows with the text.

fastjsonschema's own expressions are not used: its `email` needs seconds for 64 KiB of dots. Every expression here is
matched from the start, and each of its repetitions is possessive or counted, so that Python's `re` never goes back.
"""

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date

import orjson

from tracking.infra.validation.patterns import PatternError, compile_pattern

_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]++)?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# RFC 3986 appendix B takes a reference apart; the parts are then held against their own rules. rfc3986-validator, which
# has one expression for all, backtracks.
_PARTS = re.compile(r"(?:([^:/?#]++):)?+(?://([^/?#]*+))?+([^?#]*+)(?:\?([^#]*+))?+(?:#(.*+))?+", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+")
_CHARACTERS = r"(?:[A-Za-z0-9._~!$&'()*+,;={}-]|%[0-9A-Fa-f]{{2}})*+"
_AUTHORITY = re.compile(rf"(?:{_CHARACTERS.format(':')}@)?(?:\[([^\[\]]*+)\]|{_CHARACTERS.format('')})(?::[0-9]*+)?")
_PATH = re.compile(_CHARACTERS.format(":@/"))
_QUERY = re.compile(_CHARACTERS.format(":@/?"))
_FUTURE_ADDRESS = re.compile(r"[vV][0-9A-Fa-f]++\.[A-Za-z0-9._~!$&'()*+,;=:-]++")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_JSON_POINTER = re.compile(r"(?:/(?:[^/~]++|~[01])*+)*+")
_MAX_HOSTNAME_CHARACTERS = 253
_MAX_LOCAL_PART_CHARACTERS = 64
_MAX_ADDRESS_CHARACTERS = 45


def is_date(text: str) -> bool:
    """RFC 3339 full-date."""
    found = _DATE.fullmatch(text)
    if found is None:
        return False
    try:
        date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        return False
    return True


def is_time(text: str) -> bool:
    """RFC 3339 full-time; second 60 only where it is 23:59:60 in UTC."""
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    hour, minute, second = int(found[1]), int(found[2]), int(found[3])
    offset_hour, offset_minute = int(found[5] or 0), int(found[6] or 0)
    if hour > 23 or minute > 59 or second > 60 or offset_hour > 23 or offset_minute > 59:
        return False
    sign = -1 if found[4] == "+" else 1
    in_utc = (hour * 60 + minute + sign * (offset_hour * 60 + offset_minute)) % (24 * 60)
    return second < 60 or in_utc == 24 * 60 - 1


def is_date_time(text: str) -> bool:
    """RFC 3339 date-time; the T is needed."""
    return text[10:11] in ("T", "t") and is_date(text[:10]) and is_time(text[11:])


def is_hostname(text: str) -> bool:
    """RFC 1123: ASCII labels of 1..63 letters, digits and inner hyphens."""
    return len(text) <= _MAX_HOSTNAME_CHARACTERS and all(_LABEL.fullmatch(label) for label in text.split("."))


def is_email(text: str) -> bool:
    """RFC 5321 without quoted local parts: a dot-atom, @, a hostname or an address in brackets."""
    local, at, domain = text.rpartition("@")
    if not at or len(local) > _MAX_LOCAL_PART_CHARACTERS or _LOCAL_PART.fullmatch(local) is None:
        return False
    if domain[:1] == "[" and domain[-1:] == "]":
        literal = domain[1:-1]
        return is_ipv6(literal[5:]) if literal[:5].lower() == "ipv6:" else is_ipv4(literal)
    return is_hostname(domain)


def is_ipv4(text: str) -> bool:
    """Four decimal numbers without leading zeros."""
    return _is_address(text, ipaddress.IPv4Address)


def is_ipv6(text: str) -> bool:
    """RFC 4291, without a zone."""
    return "%" not in text and _is_address(text, ipaddress.IPv6Address)


def _is_address(text: str, kind: Callable[[str], object]) -> bool:
    if len(text) > _MAX_ADDRESS_CHARACTERS or not text.isascii():
        return False
    try:
        kind(text)
    except ValueError:
        return False
    return True


def is_uri(text: str) -> bool:
    """RFC 3986 with its scheme."""
    return _is_reference(text, needs_scheme=True)


def is_uri_reference(text: str) -> bool:
    """RFC 3986 with or without a scheme: characters and percent signs, authority with its host and port, path."""
    return _is_reference(text, needs_scheme=False)


def _is_reference(text: str, *, needs_scheme: bool) -> bool:
    parts = _PARTS.fullmatch(text)
    if parts is None:
        return False
    scheme, authority, path, query, fragment = parts.groups()
    if scheme is None:
        # without a scheme the first part of a path has no colon, else it would be one (4.2)
        is_right = not needs_scheme and (authority is not None or ":" not in path.partition("/")[0])
    else:
        is_right = _SCHEME.fullmatch(scheme) is not None
    return (
        is_right
        and (authority is None or _is_authority(authority))
        and _PATH.fullmatch(path) is not None
        and all(_QUERY.fullmatch(part or "") is not None for part in (query, fragment))
    )


def _is_authority(text: str) -> bool:
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        return False
    return found[1] is None or is_ipv6(found[1]) or _FUTURE_ADDRESS.fullmatch(found[1]) is not None


def is_uuid(text: str) -> bool:
    """RFC 4122, of any version."""
    return _UUID.fullmatch(text) is not None


def is_json_pointer(text: str) -> bool:
    """RFC 6901."""
    return _JSON_POINTER.fullmatch(text) is not None


def is_regex(text: str) -> bool:
    """Whether the keyword `pattern` would accept this expression."""
    try:
        compile_pattern(text)
    except PatternError:
        return False
    return True


def is_base64(text: str) -> bool:
    """RFC 4648 §4, with its padding."""
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def is_json(text: str | bytes) -> bool:
    """RFC 8259, nested no deeper than orjson reads (1 024)."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def is_encoded_json(text: str) -> bool:
    """JSON in base64."""
    return is_base64(text) and is_json(base64.b64decode(text))


FORMATS: Mapping[str, Callable[[str], bool]] = {
    "date": is_date,
    "date-time": is_date_time,
    "email": is_email,
    "hostname": is_hostname,
    "ipv4": is_ipv4,
    "ipv6": is_ipv6,
    "json-pointer": is_json_pointer,
    "regex": is_regex,
    "time": is_time,
    "uri": is_uri,
    "uri-reference": is_uri_reference,
    "uuid": is_uuid,
}
