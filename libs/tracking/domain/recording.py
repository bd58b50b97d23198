"""How an aggregate keeps what happened to it until somebody saves it."""

from tracking.domain.domain_events import DomainEvent


class Recording:
    """Base of aggregates."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: list[DomainEvent] = []

    def _record(self, event: DomainEvent) -> None:
        self._events.append(event)

    def take_events(self) -> list[DomainEvent]:
        """What happened since it was made or loaded; the next call starts anew."""
        taken, self._events = self._events, []
        return taken
