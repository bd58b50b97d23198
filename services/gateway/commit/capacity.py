"""How many events may wait for a commit, and how much of that one partner system may hold.

A partner system may hold at most three times what is left free. Alone it can hold what the settings say, which is three
quarters of the whole. A second one finds the last quarter, of which it can hold three quarters again, and as the first
one's events are committed both come to hold the same. So a system that sends more than the database takes is rejected,
and one that sends little is not (dynamic thresholds: Choudhury and Hahne, IEEE/ACM Transactions on Networking 6, 1998).
"""

from services.gateway.commit.micro_batch import Share
from tracking.contracts.events_tracked import HasSystemContext

_MAX_SHARE = 3
_USUAL_EVENT_BYTES = 256


class Capacity:
    """The capacity in events and bytes; `events` and `size_bytes` are what one partner system may hold alone."""

    def __init__(self, events: int, size_bytes: int) -> None:
        self._total_events = self._free_events = events + -(-events // _MAX_SHARE)
        self._total_bytes = self._free_bytes = size_bytes + -(-size_bytes // _MAX_SHARE)
        self._shares: dict[int, Share] = {}

    @property
    def held_events(self) -> int:
        """How many events are held by all partner systems."""
        return self._total_events - self._free_events

    def try_reserve(self, system: HasSystemContext, events: int, size_bytes: int) -> Share | None:
        """Reserve capacity and return the share of the system; None if it holds too much, or too little is free."""
        number = system.partner_system_id.int
        share = self._shares.get(number)
        free_events, free_bytes = self._free_events - events, self._free_bytes - size_bytes
        held_events, held_bytes = (
            (events, size_bytes) if share is None else (share.events + events, share.size_bytes + size_bytes)
        )
        if held_events > _MAX_SHARE * free_events or held_bytes > _MAX_SHARE * free_bytes:
            return None
        if share is None:
            share = self._shares[number] = Share(number)
        share.events, share.size_bytes = held_events, held_bytes
        self._free_events, self._free_bytes = free_events, free_bytes
        return share

    def release(self, share: Share, events: int, size_bytes: int) -> None:
        """Return what was reserved."""
        share.events -= events
        share.size_bytes -= size_bytes
        self._free_events += events
        self._free_bytes += size_bytes
        if not share.events:
            del self._shares[share.number]

    @property
    def is_half_free(self) -> bool:
        """Whether there is so much capacity that nobody need be rejected early."""
        return self._free_events * 2 > self._total_events and self._free_bytes * 2 > self._total_bytes

    def has_capacity(self, system: HasSystemContext | None, body_bytes: int) -> bool:
        """Whether there is capacity for the events that such a body usually holds; None is an unknown system."""
        share = None if system is None else self._shares.get(system.partner_system_id.int)
        held_events, held_bytes = (0, 0) if share is None else (share.events, share.size_bytes)
        events = body_bytes // _USUAL_EVENT_BYTES + 1
        return held_events + events <= _MAX_SHARE * (self._free_events - events) and held_bytes + body_bytes <= (
            _MAX_SHARE * (self._free_bytes - body_bytes)
        )
