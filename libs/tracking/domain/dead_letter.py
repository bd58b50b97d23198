"""States and reasons of dead letters."""

from typing import Literal

State = Literal["open", "retried", "discarded", "applied"]
Reason = Literal["unreadable", "not_applicable", "unknown"]
