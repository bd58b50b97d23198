"""Compares the responses that senders got with the stored events. It does no IO, so tests give it made-up facts.

acknowledged ⊆ stored ⊆ acknowledged ∪ unknown       nothing lost, nothing that nobody sent
stored = read model, each event once                 nothing lost on the way, nothing twice
rollups = recounts of what is stored                 and query says the same through its port
dead letters = 0                                     no fault makes a good message a bad one
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tests.faults.ledger import Sent


class StoredEvent(NamedTuple):
    """An event as a database has it; `hour` is that of its event timestamp, in UTC."""

    system_id: UUID
    id: UUID
    marker: str
    name: str
    hour: datetime
    is_valid: bool


class RollupKey(NamedTuple):
    """A key of a rollup."""

    system_id: UUID
    begin: datetime
    """Of the hour or the day, in UTC."""
    name: str


class ExpectedCounts(NamedTuple):
    """Its counts."""

    total: int
    valid: int
    invalid: int


@dataclass(frozen=True, slots=True)
class Facts:
    """`stored` is the write database, `seen` the read model, `counted` and `days` the rollups, `queried` by system."""

    sent: Sequence[Sent]
    stored: Sequence[StoredEvent]
    seen: Sequence[StoredEvent]
    counted: Mapping[RollupKey, ExpectedCounts]
    days: Mapping[RollupKey, ExpectedCounts]
    queried: Mapping[UUID, int]
    dead_letters: int = 0


@dataclass(slots=True)
class Findings:
    """The violations found, by marker or key and each once. Empty lists mean that every promise was kept."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    miscounted: list[str] = field(default_factory=list)
    misanswered: list[str] = field(default_factory=list)
    dead_letters: int = 0

    @property
    def is_clean(self) -> bool:
        """Nothing found."""
        parts = (self.lost, self.twice, self.strangers, self.miscounted, self.misanswered)
        return not any(parts) and self.dead_letters == 0


def check(facts: Facts) -> Findings:
    """Look at everything."""
    findings = Findings(dead_letters=facts.dead_letters)
    _compare_with_answers(facts, findings)
    _compare_read_model(facts, findings)
    _compare_counts(facts, findings)
    for kind in (findings.lost, findings.twice, findings.strangers, findings.misanswered):
        kind[:] = sorted(set(kind))
    return findings


def _compare_with_answers(facts: Facts, findings: Findings) -> None:
    ids_by_marker: dict[str, set[tuple[str, str]]] = {}
    for row in facts.stored:
        ids_by_marker.setdefault(row.marker, set()).add((str(row.system_id), str(row.id)))
    for event in facts.sent:
        found = ids_by_marker.pop(event.marker, set())
        if len(found) > 1:
            findings.twice.append(event.marker)
        if event.outcome == "acknowledged":
            if not found:
                findings.lost.append(event.marker)
            elif (event.system_id, event.event_id) not in found:
                findings.misanswered.append(f"{event.marker}: stored under another id than the answer says")
        if event.outcome == "refused" and found:
            findings.strangers.append(event.marker)
        if event.outcome != "unknown" and event.is_bad != (event.outcome == "refused"):
            findings.misanswered.append(f"{event.marker}: {event.outcome}, and should not be")
    findings.strangers.extend(ids_by_marker)  # nobody sent these


def _compare_read_model(facts: Facts, findings: Findings) -> None:
    stored = {(row.system_id, row.id): row.marker for row in facts.stored}
    seen = Counter((row.system_id, row.id) for row in facts.seen)
    findings.lost.extend(marker for key, marker in stored.items() if key not in seen)
    findings.twice.extend(stored.get(key, str(key)) for key, times in seen.items() if times > 1)
    findings.strangers.extend(row.marker for row in facts.seen if (row.system_id, row.id) not in stored)


def _compare_counts(facts: Facts, findings: Findings) -> None:
    _compare_rollup(facts.counted, [(row.hour, row) for row in facts.stored], findings)
    _compare_rollup(facts.days, [(row.hour.replace(hour=0), row) for row in facts.stored], findings)
    by_system = Counter(row.system_id for row in facts.stored)
    for system_id in {*by_system, *facts.queried}:
        answered = facts.queried.get(system_id, 0)
        if answered != by_system[system_id]:
            findings.miscounted.append(f"query says {answered} for {system_id}, stored {by_system[system_id]}")


def _compare_rollup(
    counted: Mapping[RollupKey, ExpectedCounts], stored: Sequence[tuple[datetime, StoredEvent]], findings: Findings
) -> None:
    expected = Counter((RollupKey(row.system_id, begin, row.name), row.is_valid) for begin, row in stored)
    for bucket in {bucket for bucket, _ in expected} | set(counted):
        valid, invalid = expected[bucket, True], expected[bucket, False]
        found = counted.get(bucket, ExpectedCounts(0, 0, 0))
        if found != (valid + invalid, valid, invalid):
            findings.miscounted.append(f"{bucket.name} at {bucket.begin}: {found}, stored {valid} + {invalid}")
