"""The base class of aggregates, which collects domain events until a command saves the aggregate."""

from datetime import datetime, timedelta

from tracking.domain.domain_events import DomainEvent

# PostgreSQL's resolution (manual, "Date/Time Types").
_TICK = timedelta(microseconds=1)


def advance_updated_at(updated_at: datetime, now: datetime) -> datetime:
    """Return the time at which a change counts as made: `now`, but always after the change before it.

    Reference data is replicated by this time, and the clocks of several processes differ. A change that looked older
    than the one before it would never be replicated.
    """
    return max(now, updated_at + _TICK)


class Aggregate:
    """Base class of aggregates."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: list[DomainEvent] = []

    def _record(self, event: DomainEvent) -> None:
        self._events.append(event)

    def pull_events(self) -> list[DomainEvent]:
        """Return the domain events since the aggregate was made or loaded, and forget them."""
        pulled, self._events = self._events, []
        return pulled
