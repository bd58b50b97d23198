"""The ledger of the load generator: the outcome of each event it sent, written at its end and read by the checker."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Outcome = Literal["acknowledged", "refused", "unknown"]


@dataclass(slots=True)
class Sent:
    """One event. `marker` stands in its properties, so that it is found wherever it went.

    `event_id` is the id in the response. An event that `is_bad` cannot be an event and has to be rejected.
    `unknown`: no answer, or one that says neither yes nor no; it may be stored or not.
    """

    marker: str
    system_id: str
    is_bad: bool = False
    outcome: Outcome = "unknown"
    event_id: str | None = None


@dataclass(slots=True)
class Attempt:
    """One request, each repeat by itself: when (monotonic clock of the machine), and its status, 0 = no answer.

    `gateway` is the position of its URL in the plan; `is_repeat` is false for the first attempt.
    """

    sent_at: float
    ended_at: float
    status: int
    gateway: int = 0
    is_repeat: bool = False


@dataclass(slots=True)
class Ledger:
    """All of one run. `cpu_share` is of one core: near 1 the generator itself would be the limit."""

    events: list[Sent] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    ended_at: float = 0.0
    cpu_share: float = 0.0

    def count(self, outcome: Outcome) -> int:
        """Events with this outcome."""
        return sum(event.outcome == outcome for event in self.events)

    def write(self, file: Path) -> None:
        """As JSON."""
        file.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, file: Path) -> "Ledger":
        """Read a ledger that `write` wrote."""
        known = json.loads(file.read_text())
        known["events"] = [Sent(**event) for event in known["events"]]
        known["attempts"] = [Attempt(**attempt) for attempt in known["attempts"]]
        return cls(**known)
