"""An envelope that could not be taken as it was sent, with what was changed in it."""

from collections.abc import Iterable
from typing import Any

Flag = tuple[str, str]
"""The code of a validation error, and its message."""


class FlaggedEnvelope(dict[str, Any]):
    """An envelope whose event is stored with `flags`; `raw` is its text as it was sent, if it is not JSON."""

    __slots__ = ("flags", "raw")

    def __init__(self, envelope: dict[str, Any], flags: Iterable[Flag], raw: bytes | None = None) -> None:
        super().__init__(envelope)
        self.flags = tuple(flags)
        self.raw = raw
