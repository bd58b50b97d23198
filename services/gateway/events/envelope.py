"""An envelope that could not be taken as it was sent, with what was changed in it."""

from collections.abc import Iterable, Mapping
from typing import Any

Flag = tuple[str, str]
"""The code of a validation error, and its message."""


class FlaggedEnvelope(dict[str, Any]):
    """An envelope whose event is stored with `flags`, and with one for each of the `unknown` members.

    `raw` is its text as it was sent, if it is not JSON.
    """

    __slots__ = ("flags", "raw", "unknown")

    def __init__(
        self,
        envelope: dict[str, Any],
        flags: Iterable[Flag] = (),
        raw: bytes | None = None,
        unknown: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(envelope)
        self.flags = tuple(flags)
        self.raw = raw
        self.unknown: dict[str, Any] = dict(unknown or {})

    def replace(self, envelope: dict[str, Any], unknown: Mapping[str, Any]) -> "FlaggedEnvelope":
        """Return the same envelope with other members, and further unknown ones."""
        return FlaggedEnvelope(envelope, self.flags, self.raw, {**self.unknown, **unknown})
