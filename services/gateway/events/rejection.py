"""What is said of an envelope: faults that refuse it, errors that flag it."""

from dataclasses import dataclass
from typing import Any, Literal

RejectionReason = Literal["malformed_json", "invalid_event", "event_too_large", "too_deep", "not_storable"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Not an event: why, and each fault as `{field, message}`."""

    reason: RejectionReason
    message: str
    faults: tuple[dict[str, str], ...] = ()
    # a line of NDJSON that is no JSON; else what was sent is at hand
    raw: bytes | None = None


class EventErrors:
    """What reading an envelope brought up: every fault, so that a sender hears of all of them at once.

    `errors` do not refuse an event, it is stored with them.
    """

    __slots__ = ("field_errors", "has_nul", "validation_errors")

    def __init__(self) -> None:
        self.field_errors: list[dict[str, str]] = []
        self.validation_errors: list[dict[str, Any]] = []
        self.has_nul = False

    def add_field_error(self, name: str, message: str) -> None:
        """Note a fault of the field `name`."""
        self.field_errors.append({"field": name, "message": message})

    def add_validation_error(self, code: str, message: str) -> None:
        """Note what an event is flagged with that no place in its schema is about."""
        self.validation_errors.append({"code": code, "path": "", "schemaPath": "", "message": message})
