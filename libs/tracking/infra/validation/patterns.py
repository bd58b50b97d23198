"""Regular expressions of a schema, run by RE2: its time grows with the text, whatever the pattern.

JSON Schema means ECMA-262 expressions, searched for anywhere in the text. Python's `re` backtracks: one unanchored
`a+b` needs minutes on 64 KiB of `a`, and telling harmless patterns from harmful ones by their syntax refuses many good
ones. RE2 (google-re2, kept by Google) knows no backtracking. The price: look-around and back-references are refused,
and what the two dialects write differently is translated here, or refused where it cannot be.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol, cast

import re2

MAX_CHARACTERS = 256
# Instructions of the compiled program; the worst case costs 4.5 ns for each instruction and byte of text (measured).
MAX_PROGRAM = 1_000
_SPACE = r"\t-\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
_ANY = r"[^\n\r\x{2028}\x{2029}]"
# Escapes that mean the same in both dialects; other letters are refused, as ECMA-262 does with its flag u.
_SAME_ESCAPES = frozenset("bBdDwWfnrtvSpP")


class PatternError(ValueError):
    """The pattern is rejected. The message explains why to the author of the schema."""


class Pattern(Protocol):
    """A compiled pattern."""

    programsize: int

    def search(self, text: str) -> object | None:
        """Return None unless the pattern occurs in `text`."""


@lru_cache(maxsize=4_096)
def compile_pattern(pattern: str) -> Pattern:
    """Compile an ECMA-262 pattern. Raises PatternError."""
    if len(pattern) > MAX_CHARACTERS:
        raise PatternError(f"longer than {MAX_CHARACTERS} characters")
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
        raise PatternError("its counted repetitions make it too large; use smaller counts")
    return cast("Pattern", compiled)


def _translate(pattern: str) -> Iterator[str]:
    position = 0
    in_class = False
    while position < len(pattern):
        rest = pattern[position : position + 8]
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
    if letter == "s":
        return 2, _SPACE if in_class else f"[{_SPACE}]"
    if letter == "S" and not in_class:
        return 2, f"[^{_SPACE}]"
    if letter in ("u", "x"):
        digits = rest[2:6] if letter == "u" else rest[2:4]
        if len(digits) != (4 if letter == "u" else 2) or any(d not in "0123456789abcdefABCDEF" for d in digits):
            raise PatternError(f"\\{letter} without its hexadecimal digits")
        if 0xD800 <= int(digits, 16) <= 0xDFFF:
            raise PatternError("half of a surrogate pair; write the character itself")
        return 2 + len(digits), f"\\x{{{digits}}}"
    if letter == "0" and not rest[2:3].isdigit():
        return 2, r"\x{0}"
    if letter == "b" and in_class:
        return 2, r"\x{8}"
    if letter.isalnum() and letter not in _SAME_ESCAPES:
        raise PatternError(f"\\{letter} is not supported (back-references never are)")
    return 2, f"\\{letter}"
