"""States and reasons of dead letters."""

from typing import Literal

DeadLetterState = Literal["open", "retried", "discarded", "applied"]
DeadLetterReason = Literal["unreadable", "not_applicable", "unknown"]
