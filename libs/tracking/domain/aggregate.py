"""How an aggregate keeps what happened to it until somebody saves it, and when."""

from datetime import datetime, timedelta

from tracking.domain.domain_events import DomainEvent

# PostgreSQL's resolution (manual, "Date/Time Types").
_TICK = timedelta(microseconds=1)


def advance_updated_at(updated_at: datetime, now: datetime) -> datetime:
    """When a change counts as made: `now`, but always after the change before it.

    Copies are brought up to date by this time, and clocks of several processes differ: a change that looked older than
    the one before it would never be copied.
    """
    return max(now, updated_at + _TICK)


class Aggregate:
    """Base of aggregates."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: list[DomainEvent] = []

    def _record(self, event: DomainEvent) -> None:
        self._events.append(event)

    def pull_events(self) -> list[DomainEvent]:
        """What happened since it was made or loaded; the next call starts anew."""
        pulled, self._events = self._events, []
        return pulled
