"""Dead letters: their states and reasons, and which state may follow which."""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from tracking.domain.errors import Conflict

DeadLetterState = Literal["open", "retried", "discarded", "applied"]
DeadLetterReason = Literal["unreadable", "not_applicable", "not_sendable", "unknown"]

# A person retries or discards. The relay opens one again that the consumer has given up again, or that cannot be sent;
# what is discarded stays discarded. It closes one as applied that it finds in the inbox.
TRANSITIONS: Mapping[DeadLetterState, frozenset[DeadLetterState]] = {
    "open": frozenset({"retried", "discarded", "applied"}),
    "retried": frozenset({"retried", "discarded", "open", "applied"}),
    "discarded": frozenset({"retried", "discarded"}),
    "applied": frozenset({"open"}),
}


def require_retry(letter_id: UUID, state: DeadLetterState, *, can_be_sent: bool) -> None:
    """Raise Conflict if the dead letter was applied, or was too large to be stored whole."""
    _require_transition(letter_id, state, "retried")
    if not can_be_sent:
        raise Conflict("dead_letter_cut", f"{letter_id} is no stored batch and too large to be kept whole: discard it.")


def require_discard(letter_id: UUID, state: DeadLetterState) -> None:
    """Raise Conflict if the dead letter was applied."""
    _require_transition(letter_id, state, "discarded")


def _require_transition(letter_id: UUID, state: DeadLetterState, decision: DeadLetterState) -> None:
    if decision not in TRANSITIONS[state]:
        raise Conflict("dead_letter_applied", f"{letter_id} has been applied: there is nothing left to decide.")
