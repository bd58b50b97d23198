"""The two kinds of errors found while an event is decided.

Field errors reject the event. Validation errors do not: the event is stored and flagged with them.
"""

from dataclasses import dataclass
from typing import Any, Literal

RejectionReason = Literal["malformed_json", "invalid_event", "event_too_large", "too_deep", "not_storable"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an envelope is no event; each field error is `{field, message}`."""

    reason: RejectionReason
    message: str
    field_errors: tuple[dict[str, str], ...] = ()
    # a line of NDJSON that is no JSON; else what was sent is at hand
    raw: bytes | None = None


class EventErrors:
    """The errors of one envelope, all of them, so that a sender learns of every one at once."""

    __slots__ = ("field_errors", "has_nul", "validation_errors")

    def __init__(self) -> None:
        self.field_errors: list[dict[str, str]] = []
        self.validation_errors: list[dict[str, Any]] = []
        self.has_nul = False

    def add_field_error(self, name: str, message: str) -> None:
        """Add an error of the field `name`, which rejects the event."""
        self.field_errors.append({"field": name, "message": message})

    def add_validation_error(self, code: str, message: str) -> None:
        """Add an error that the event is flagged with and that no place in its schema is about."""
        self.validation_errors.append({"code": code, "path": "", "schemaPath": "", "message": message})
