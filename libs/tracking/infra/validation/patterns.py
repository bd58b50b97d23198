"""Regular expressions of a schema, run by RE2: its time grows with the text, whatever the pattern.

JSON Schema means ECMA-262 expressions, searched for anywhere in the text. Python's `re` backtracks: one unanchored
`a+b` needs minutes on 64 KiB of `a`, and telling harmless patterns from harmful ones by their syntax refuses many good
ones. RE2 (google-re2, kept by Google) knows no backtracking. The price: look-around and back-references are refused,
and what the two dialects write differently is translated here, or refused where it cannot be.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, cast

import re2

MAX_CHARACTERS = 256
# Instructions of the compiled program; the worst case costs 4.5 ns for each instruction and byte of text (measured).
MAX_PROGRAM = 6_000
_CODE_POINT = re.compile(r"\\(?:u\{0*([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2}))")
_SPACE = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_ANY = r"[^\n\r\x{2028}\x{2029}]"
# Escapes that mean the same in both dialects; other letters are refused, as ECMA-262 does with its flag u.
_SAME_ESCAPES = frozenset("bBdDwWfnrtvS")
_PROPERTY = re.compile(r"\\([pP])(?:\{(\^?)(?:([A-Za-z_]+)=)?([A-Za-z_0-9]+)\}|([A-Z]))")
_CATEGORY_PREFIXES = (None, "gc", "General_Category")
_SCRIPT_PREFIXES = (None, "sc", "Script", "scx", "Script_Extensions")
# RE2 knows the short names of the general categories only.
_CATEGORIES = {
    "Letter": "L", "Uppercase_Letter": "Lu", "Lowercase_Letter": "Ll", "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm", "Other_Letter": "Lo", "Mark": "M", "Combining_Mark": "M", "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc", "Enclosing_Mark": "Me", "Number": "N", "Decimal_Number": "Nd", "digit": "Nd",
    "Letter_Number": "Nl", "Other_Number": "No", "Punctuation": "P", "punct": "P", "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd", "Open_Punctuation": "Ps", "Close_Punctuation": "Pe", "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf", "Other_Punctuation": "Po", "Symbol": "S", "Math_Symbol": "Sm", "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk", "Other_Symbol": "So", "Separator": "Z", "Space_Separator": "Zs", "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp", "Other": "C", "Control": "Cc", "cntrl": "Cc", "Format": "Cf", "Surrogate": "Cs",
    "Private_Use": "Co",
}  # fmt: skip
# `^[…]{1,50}$` and the like: a text of so many characters of one class
_COUNTED_CLASS = re.compile(
    r"\^(\.|\\[dDwWsS]|\\[pP]\{[^{}]*\}|\[\^?(?:\\.|[^\]\\])+\])\{([0-9]{1,6})(,?)([0-9]{0,6})\}\$", re.DOTALL
)


class PatternError(ValueError):
    """The pattern is rejected. The message explains why to the author of the schema."""


class Pattern(Protocol):
    """A compiled pattern."""

    @property
    def programsize(self) -> int:
        """The instructions of the program."""

    def search(self, text: str) -> object | None:
        """Return None unless the pattern occurs in `text`."""


@dataclass(frozen=True, slots=True)
class _CountedClass:
    """A text of `least` to `most` characters of one class.

    As a program RE2 writes the class once for each repetition: 60 000 instructions for 50 letters of any alphabet.
    """

    characters: Pattern
    least: int
    most: float

    @property
    def programsize(self) -> int:
        """The instructions of the program for the class."""
        return self.characters.programsize

    def search(self, text: str) -> object | None:
        """Return None unless all of `text` is such a text."""
        return self.characters.search(text) if self.least <= len(text) <= self.most else None


@lru_cache(maxsize=4_096)
def compile_pattern(pattern: str) -> Pattern:
    """Compile an ECMA-262 pattern. Raises PatternError."""
    if len(pattern) > MAX_CHARACTERS:
        raise PatternError(f"longer than {MAX_CHARACTERS} characters")
    counted = _COUNTED_CLASS.fullmatch(pattern)
    if counted is None:
        return _compile(pattern)
    characters, least, comma, most = counted.groups()
    if most and int(most) < int(least):
        raise PatternError(f"{{{least},{most}}}: the second number is smaller than the first")
    unbounded = math.inf if comma else int(least)
    return _CountedClass(_compile(f"^{characters}*$"), int(least), int(most) if most else unbounded)


def _compile(pattern: str) -> Pattern:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile("".join(_translate(pattern)), options)  # type: ignore[no-untyped-call]
    except re2.error as error:
        message = error.args[0] if error.args else ""
        text = message.decode("utf-8", "replace") if isinstance(message, bytes) else str(message)
        raise PatternError(text) from error
    except UnicodeEncodeError as error:
        raise PatternError("half of a surrogate pair") from error
    if compiled.programsize > MAX_PROGRAM:
        raise PatternError(
            f"too large: it takes {compiled.programsize} steps, and the limit is {MAX_PROGRAM}. Counted repetitions "
            "are written out, and a class of Unicode letters takes 1 200 steps each time. Use smaller counts, or "
            "minLength and maxLength with a pattern of *"
        )
    return cast("Pattern", compiled)


def _translate(pattern: str) -> Iterator[str]:
    position = 0
    in_class = False
    while position < len(pattern):
        rest = pattern[position : position + 64]
        taken = 1
        if rest[0] == "\\":
            taken, piece = _escape(rest, in_class)
        elif in_class:
            piece = _in_class(rest)
            in_class = rest[0] != "]"
        elif rest[0] == "[":
            if rest[1:2] == "]" or rest[1:3] == "^]":
                raise PatternError("an empty class")
            in_class = True
            piece = "["
        elif rest[0] == ".":
            piece = _ANY
        elif rest[:2] == "(?" and rest[2:3] != ":" and not (rest[2:3] == "<" and rest[3:4] not in ("=", "!")):
            raise PatternError(f"{rest[:3]!r}: look-around and flags are not supported")
        else:
            piece = rest[0]
        yield piece
        position += taken


def _in_class(rest: str) -> str:
    # RE2 reads [[:alpha:]] as POSIX does, ECMA-262 as plain characters
    return r"\[" if rest[0] == "[" else rest[0]


def _escape(rest: str, in_class: bool) -> tuple[int, str]:
    """Return the length of the escape at the start of `rest`, and its translation for RE2."""
    letter = rest[1:2]
    if letter in ("p", "P"):
        return _property(rest)
    if letter == "s":
        return 2, _SPACE if in_class else f"[{_SPACE}]"
    if letter == "S" and not in_class:
        return 2, f"[^{_SPACE}]"
    if letter in ("u", "x"):
        return _code_point(rest)
    if letter == "0" and not rest[2:3].isdigit():
        return 2, r"\x{0}"
    if letter == "b" and in_class:
        return 2, r"\x{8}"
    if letter.isalnum() and letter not in _SAME_ESCAPES:
        raise PatternError(f"\\{letter} is not supported (back-references never are)")
    return 2, f"\\{letter}"


def _code_point(rest: str) -> tuple[int, str]:
    r"""Return the length of the escape `\u` or `\x` at the start of `rest`, with its digits, and what RE2 calls it."""
    found = _CODE_POINT.match(rest)
    if found is None:
        raise PatternError(f"{rest[:2]} without its hexadecimal digits")
    digits = found[1] or found[2] or found[3]
    if 0xD800 <= int(digits, 16) <= 0xDFFF:
        raise PatternError("half of a surrogate pair; write the character itself")
    return len(found[0]), f"\\x{{{digits}}}"


def _property(rest: str) -> tuple[int, str]:
    r"""Return the length of `\p{…}` or `\P{…}` at the start of `rest`, and what RE2 calls it."""
    found = _PROPERTY.match(rest)
    if found is None:
        raise PatternError(r"\p without the name of a property, as in \p{L}")
    letter, caret, prefix, name, short = found.groups()
    if caret:
        raise PatternError(r"\p{^…}: write \P{…}")
    name = name or short
    if name == "LC":
        raise PatternError(rf"{found[0]}: write [\p{{Lu}}\p{{Ll}}\p{{Lt}}]")
    if prefix in _CATEGORY_PREFIXES and name in _CATEGORIES:
        name = _CATEGORIES[name]
    elif prefix not in _SCRIPT_PREFIXES and prefix not in _CATEGORY_PREFIXES:
        raise PatternError(f"{found[0]}: only general categories and scripts are known")
    return len(found[0]), f"\\{letter}{{{name}}}"
