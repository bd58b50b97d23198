"""Events whose key an unfinished transaction of another session holds: they wait here, and their neighbours do not.

A gateway that freezes, or whose host disappears, between COPY and COMMIT holds the keys of its events until PostgreSQL
ends its session (tracking/migrations/role_settings.py). Senders repeat these events through other gateways meanwhile.
The requests concerned are taken out of their group and tried again until their deadline, one commit at a time, so they
use one connection of this process however many they are. Repeats of a key that was held a moment ago come here at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from services.gateway.commit.micro_batch import EventKey, MicroBatch, get_event_key
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import metrics

_RETRY_INTERVAL_S = 0.1
_REMEMBER_S = 5.0
_MAX_REMEMBERED_KEYS = 10_000

Commit = Callable[[MicroBatch, float], Awaitable[Sequence[MicroBatch]]]
"""Commits a micro-batch before a deadline (of time.monotonic); returns the parts that are still held."""


class HeldRows:
    """`add` and `find` are for the groups of this process, `finish` for what they had to leave out."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._is_free = asyncio.Semaphore(1)
        # Until when each key counts as held, in this order.
        self._until: dict[EventKey, float] = {}

    def add(self, key: EventKey) -> None:
        """Remember that the key was held just now."""
        self._until.pop(key, None)
        self._until[key] = time.monotonic() + _REMEMBER_S
        if len(self._until) > _MAX_REMEMBERED_KEYS:
            del self._until[next(iter(self._until))]

    def has_keys(self) -> bool:
        """Return whether any key was held within the last seconds."""
        if not self._until:
            return False
        now = time.monotonic()
        while self._until and self._until[next(iter(self._until))] <= now:
            del self._until[next(iter(self._until))]
        return bool(self._until)

    def find(self, events: Sequence[TrackingEvent]) -> list[int]:
        """Return the rows whose keys were held within the last seconds."""
        return [row for row, event in enumerate(events) if get_event_key(event) in self._until]

    async def finish(self, held: Sequence[MicroBatch], deadline: float) -> None:
        """Commit what was held as soon as it is free; mark the rest as unavailable when the deadline is near."""
        metrics.held_events.inc(sum(len(part.events) for part in held))
        while held:
            if time.monotonic() + _RETRY_INTERVAL_S >= deadline:
                for part in held:
                    part.mark_unavailable()
                return
            await asyncio.sleep(_RETRY_INTERVAL_S)
            async with self._is_free:
                held = await self._commit(MicroBatch.join(held), deadline)
