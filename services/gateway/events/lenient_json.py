r"""Decodes one JSON value that a strict parser does not accept, and says what was changed in it.

It reads what serializers really write: NaN and Infinity (Python, PHP, .NET), numbers beyond double precision, text that
is not UTF-8, control characters that nobody escaped, and half of a surrogate pair. JavaScript that cuts a text inside
an emoji sends `"\ud83d"`, which RFC 8259 allows, but orjson and PostgreSQL do not accept; such an escape is replaced by
`\u0000`, which `decide` stores as U+FFFD with a flag. Any other text that is not JSON remains an error.

The texts are replaced first, which takes little time whatever the size. For the rest the parser of the standard library
is used, which has hooks for all of it. It is much slower than orjson, so it reads no value beyond 1 MiB.
"""

import json
import re
from math import isfinite
from typing import Any

import orjson

from services.gateway.events.envelope import Flag

_MAX_PATIENT_BYTES = 1024 * 1024
_NOT_UTF_8: Flag = ("invalid_utf8", "Bytes that are not UTF-8 were replaced by U+FFFD.")
_OUT_OF_RANGE: Flag = ("number_out_of_range", "NaN, Infinity or a number beyond 1.8e308 was replaced by null.")
_CONTROL: Flag = ("control_character", "A string contains control characters that are not escaped.")
_HEX = rb"[0-9a-fA-F]"
_HIGH, _LOW = rb"[dD][89abAB]" + _HEX * 2, rb"[dD][c-fC-F]" + _HEX * 2
# the escape comes first, as a literal is what `re` finds fast; then, that its backslash is not itself escaped
_HALF_PAIR = re.compile(
    rb"\\u(?<!\\\\u)(?:" + _HIGH + rb"(?!\\u" + _LOW + rb")|(?<!\\u" + _HIGH + rb"\\u)" + _LOW + rb")"
)
# a surrogate in three bytes, as CESU-8 and the modified UTF-8 of Java write it
_ENCODED_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
# a text without a match has no number beyond double precision or 64 bits, so its numbers need no hooks
_MAYBE_OUT_OF_RANGE = re.compile(r"[0-9]{19}|[eE]\+?[0-9]{3}")
_WHITE_SPACE = " \t\r\n"


def decode_leniently(raw: bytes) -> tuple[Any, list[Flag]]:
    """Return the value and the flags for what was changed in it. Raises ValueError if it cannot be read."""
    flags: list[Flag] = []
    text = _replace_bad_text(raw, flags)
    if text is not raw:
        try:
            return orjson.loads(text), flags
        except orjson.JSONDecodeError:
            pass
    if len(text) > _MAX_PATIENT_BYTES:
        raise ValueError(f"it has more than {_MAX_PATIENT_BYTES} bytes")
    try:
        return _PARSER.parse(text.decode().strip(_WHITE_SPACE), flags), flags
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def _replace_bad_text(raw: bytes, flags: list[Flag]) -> bytes:
    """Replace half surrogate pairs and what is not UTF-8; `raw` itself is returned if it has none of them."""
    text, _ = _HALF_PAIR.subn(rb"\\u0000", raw)
    try:
        text.decode()
    except UnicodeDecodeError:
        flags.append(_NOT_UTF_8)
        text = _ENCODED_SURROGATE.sub("\ufffd".encode(), text).decode("utf-8", "replace").encode()
    return text


class _PatientParser:
    """The parser of the standard library with hooks; not for several threads, as the hooks record what they meet."""

    def __init__(self) -> None:
        self._out_of_range: list[str] = []
        # `append` returns None, which becomes the value, and is faster than any function of Python
        constants: dict[str, Any] = {"parse_constant": self._out_of_range.append}
        numbers: dict[str, Any] = {"parse_float": self._parse_number, "parse_int": self._parse_integer, **constants}
        self._strict = json.JSONDecoder(**constants), json.JSONDecoder(**numbers)
        self._lax = json.JSONDecoder(strict=False, **constants), json.JSONDecoder(strict=False, **numbers)

    def parse(self, text: str, flags: list[Flag]) -> Any:
        """Return the value, and add the flags. Raises ValueError, RecursionError."""
        has_hooks = _MAYBE_OUT_OF_RANGE.search(text) is not None
        self._out_of_range.clear()
        try:
            value = self._strict[has_hooks].decode(text)
        except json.JSONDecodeError as error:
            if not error.msg.startswith("Invalid control character"):
                raise
            value = self._lax[has_hooks].decode(text)
            flags.append(_CONTROL)
        if self._out_of_range:
            flags.append(_OUT_OF_RANGE)
        return value

    def _parse_number(self, text: str) -> float | None:
        number = float(text)
        if isfinite(number):
            return number
        self._out_of_range.append(text)
        return None

    def _parse_integer(self, text: str) -> int | float | None:
        """Return the integer, or what orjson makes of one beyond 64 bits."""
        return int(text) if len(text) < 19 else self._parse_number(text)


_PARSER = _PatientParser()
