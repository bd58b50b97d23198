"""The time at which a request was received."""

import time
from datetime import UTC, datetime

from tracking.domain.timestamps import to_unix_ms


class _Clock:
    """The last receive time. Requests come in bursts, and those of one millisecond share its object."""

    ms = 0
    at = datetime.fromtimestamp(0, UTC)


_clock = _Clock()


def get_receive_time() -> datetime:
    """Return the receive time, cut to the milliseconds that responses show.

    The same object is returned all through a millisecond.
    """
    ms = time.time_ns() // 1_000_000
    if ms != _clock.ms:
        _clock.ms, _clock.at = ms, datetime.fromtimestamp(ms / 1000, UTC)
    return _clock.at


def get_receive_ms(received_at: datetime) -> int:
    """Return a receive time in Unix milliseconds.

    The value of the last one, which is nearly always asked for, is kept.
    """
    return _clock.ms if received_at is _clock.at else to_unix_ms(received_at)
