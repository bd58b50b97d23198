"""SQL statements composed of fragments, their values bound by name (docs/decisions/0014).

The text of a fragment is a literal in the source code. A `:name` in it is a value or another fragment, given under that
name. A value is always sent as a parameter, so no value can become text of a statement. Values may also be given by the
fragment around: a condition says `:partner_system_id`, and the statement that contains it binds that once.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import LiteralString, NamedTuple

# not the colons of a cast
_PLACEHOLDER = re.compile(r"(?<!:):([a-z_][a-z_0-9]*)")
_MAX_TEXTS = 1_000


class Statement(NamedTuple):
    """`arguments` in the order of $1, $2, … in the text, as asyncpg takes both."""

    text: str
    arguments: Sequence[object]


class Fragment:
    """A part of a statement, or a whole one."""

    __slots__ = ("_parts", "_text")

    def __init__(self, text: LiteralString, /, **parts: object) -> None:
        self._text = text
        self._parts = parts

    def render(self) -> Statement:
        """The statement for PostgreSQL.

        Its text depends on the fragments alone, never on a value, so equal questions share a prepared statement.
        Raises ValueError for a name that neither its fragment nor one around gives, and for a part that is not used.
        """
        pieces: list[str] = []
        arguments: list[object] = []
        self._write(pieces, arguments, {})
        return Statement("".join(pieces), arguments)

    def _write(self, pieces: list[str], arguments: list[object], outer: "Mapping[str, _Value]") -> None:
        own = {name: _Value(part) for name, part in self._parts.items() if not isinstance(part, Fragment)}
        values = {**outer, **own}
        unused = set(self._parts)
        for number, piece in enumerate(_split_text(self._text)):
            if number % 2 == 0:
                pieces.append(piece)
                continue
            part = self._parts.get(piece)
            if isinstance(part, Fragment):
                part._write(pieces, arguments, values)
                unused.discard(piece)
            elif piece in values:
                pieces.append(values[piece].bind(arguments))
            else:
                raise ValueError(f":{piece} has no value in: {self._text}")
        unused.difference_update(name for name, value in own.items() if value.is_bound)
        if unused:
            raise ValueError(f"{sorted(unused)} not used in: {self._text}")


class _Value:
    """A value of one fragment: one parameter, however often it is mentioned there and in the fragments inside."""

    __slots__ = ("_placeholder", "_value")

    def __init__(self, value: object) -> None:
        self._value = value
        self._placeholder: str | None = None

    @property
    def is_bound(self) -> bool:
        return self._placeholder is not None

    def bind(self, arguments: list[object]) -> str:
        if self._placeholder is None:
            arguments.append(self._value)
            self._placeholder = f"${len(arguments)}"
        return self._placeholder


def match_all(conditions: Iterable[Fragment]) -> Fragment:
    """The condition that holds where all conditions hold: always, if there are none."""
    named = {f"condition_{number}": condition for number, condition in enumerate(conditions)}
    return Fragment("\n   and ".join(f"(:{name})" for name in named) or "true", **named)


@lru_cache(maxsize=_MAX_TEXTS)
def _split_text(text: str) -> Sequence[str]:
    """The text around placeholders and, at odd places, their names."""
    return _PLACEHOLDER.split(text)
