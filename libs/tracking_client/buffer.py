"""The queue of events to send: bounded in events and bytes, taken in batches. No IO, no lock, no clock of its own."""

from collections import deque
from collections.abc import Iterable

from tracking_client.options import Options
from tracking_client.tracking_methods import EncodedEvent


class Buffer:
    """First in, first out. Times are readings of `time.monotonic`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._waiting: deque[EncodedEvent] = deque()
        self._bytes = 0
        self._since = 0.0
        self._due_count = 0
        self.accepted_count = 0
        """How many events `put` took."""
        self.done_count = 0
        """How many of them have ended; `mark_done` counts them."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: EncodedEvent, now: float) -> bool:
        """Append the event; False if the queue is full."""
        size = len(event.body)
        if len(self._waiting) >= self._options.queue_events or self._bytes + size > self._options.queue_bytes:
            return False
        if not self._waiting:
            self._since = now
        self._waiting.append(event)
        self._bytes += size
        self.accepted_count += 1
        return True

    def flush(self) -> int:
        """Make all waiting events due at once. `done_count` reaches the returned number when all of them have ended."""
        self._due_count = self.accepted_count
        return self.accepted_count

    def due_in_s(self, now: float) -> float | None:
        """Return the seconds until a batch is due; None if no event waits."""
        if not self._waiting:
            return None
        is_full = len(self._waiting) >= self._options.batch_events or self._bytes >= self._options.batch_bytes
        if is_full or self.accepted_count - len(self._waiting) < self._due_count:
            return 0.0
        return max(0.0, self._since + self._options.linger_s - now)

    def take(self, now: float) -> list[EncodedEvent]:
        """Remove and return the next batch, which has at least one event if any waits."""
        batch: list[EncodedEvent] = []
        free_bytes = self._options.batch_bytes
        while self._waiting and len(batch) < self._options.batch_events:
            size = len(self._waiting[0].body)
            if batch and size > free_bytes:
                break
            batch.append(self._waiting.popleft())
            free_bytes -= size
            self._bytes -= size
        self._since = now
        return batch

    def requeue(self, events: Iterable[EncodedEvent]) -> None:
        """Put events that were taken and have not ended before all others, without regard to the bounds."""
        for event in reversed(list(events)):
            self._waiting.appendleft(event)
            self._bytes += len(event.body)

    def take_all(self) -> list[EncodedEvent]:
        """Remove and return all waiting events."""
        everything = list(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        return everything

    def mark_done(self, count: int) -> None:
        """Count events that have ended and whose callbacks have returned."""
        self.done_count += count
