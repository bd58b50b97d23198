"""The options of a tracker, with defaults that suit a web server."""

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """For both trackers. Raises ValueError for numbers that make no sense."""

    queue_events: int = 10_000
    """The most events that wait. One more batch may be under way."""
    queue_bytes: int = 16 * 1024 * 1024
    when_full: Literal["drop", "raise"] = "drop"
    """"drop" calls `on_error` (code `queue_full`), "raise" raises QueueFull; neither waits."""
    batch_events: int = 500
    """The gateway takes 2 500 by default."""
    batch_bytes: int = 1024 * 1024
    """Before compression, and so the largest event; the gateway takes 5 MiB by default, and 64 KiB an event."""
    linger_s: float = 0.5
    """How long an event waits for others to travel with."""
    gzip_from_bytes: int = 1024
    timeout_s: float = 15.0
    """The longest wait to connect, and between two bytes."""
    first_pause_s: float = 0.2
    longest_pause_s: float = 30.0
    retry_for_s: float = 3600.0
    """How long one batch is tried before `on_error` is called with `not_acknowledged`; batches behind it wait."""
    close_timeout_s: float = 10.0
    """How long the end of the program waits for events that are not sent yet."""

    def __post_init__(self) -> None:
        if self.when_full not in ("drop", "raise"):
            raise ValueError(f"when_full is 'drop' or 'raise', not {self.when_full!r}")
        may_be_zero = ("linger_s", "gzip_from_bytes", "first_pause_s", "longest_pause_s", "retry_for_s")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "when_full" and not (value >= 0 if field.name in may_be_zero else value > 0):
                raise ValueError(f"{field.name} cannot be {value!r}")
