"""The two kinds of errors found while an event is decided.

Field errors reject the event. Validation errors do not: the event is stored and flagged with them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from services.gateway.events.envelope import Flag

RejectionReason = Literal[
    "malformed_json", "invalid_event", "event_too_large", "too_deep", "event_too_old", "not_storable"
]


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why an envelope is rejected; each field error is `{field, message}`."""

    reason: RejectionReason
    message: str
    field_errors: tuple[dict[str, str], ...] = ()
    # The text of an element that is not JSON; otherwise the envelope itself is available.
    raw: bytes | None = None


class EventErrors:
    """All errors of one envelope, so that a sender learns of every one at once."""

    __slots__ = ("field_errors", "has_nul", "validation_errors")

    def __init__(self) -> None:
        self.field_errors: list[dict[str, str]] = []
        self.validation_errors: list[dict[str, Any]] = []
        self.has_nul = False

    def add_field_error(self, name: str, message: str) -> None:
        """Add an error of the field `name`, which rejects the event."""
        self.field_errors.append({"field": name, "message": message})

    def add_validation_error(self, code: str, message: str, path: str = "") -> None:
        """Add an error that flags the event and does not belong to a field of its schema."""
        self.validation_errors.append({"code": code, "path": path, "schemaPath": "", "message": message})

    def add_flags(self, flags: Iterable[Flag]) -> None:
        """Add the validation errors of an envelope that had to be changed."""
        for code, message in flags:
            self.add_validation_error(code, message)
