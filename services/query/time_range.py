"""Time ranges of questions: parsed from text, completed if a border is missing, with their whole hours and days."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tracking.domain.timestamps import names_day, parse_timestamp

STEP = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_DEFAULT_LENGTH = timedelta(days=30)
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


def parse_time(value: Any) -> Any:
    """A text to a time in UTC; anything but text is returned.

    ISO 8601, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970. Raises ValueError.
    """
    if not isinstance(value, str):
        return value
    parsed = parse_timestamp(value)
    if parsed is None:
        raise ValueError("not an ISO 8601 time such as 2025-12-01T00:00:00Z")
    return parsed


def parse_last_moment(value: Any) -> Any:
    """As `parse_time`, but a date alone means the last moment of its day."""
    parsed = parse_time(value)
    if isinstance(value, str) and isinstance(parsed, datetime) and names_day(value):
        return parsed + (_DAY - STEP)
    return parsed


@dataclass(frozen=True, slots=True)
class TimeRange:
    """start <= t <= end, in UTC. Of the part before `raw_since` only counts of whole hours are known; None: of none."""

    start: datetime
    end: datetime
    raw_since: datetime | None = None

    @property
    def exclusive_end(self) -> datetime:
        """The first moment after it, as PostgreSQL counts microseconds too; the last one has none after it."""
        return _add(self.end, STEP)

    @property
    def raw_start(self) -> datetime:
        """From when on there are events; it may be after the end."""
        return self.start if self.raw_since is None else max(self.start, self.raw_since)

    def get_whole_hours(self) -> tuple[datetime, datetime]:
        """The first and the last full hour in [start, exclusive_end]; equal or reversed if it holds no whole hour."""
        first, last = _get_hour(self.start), _get_hour(self.exclusive_end)
        return (first if first == self.start else _add(first, _HOUR)), last

    def get_whole_days(self) -> tuple[datetime, datetime]:
        """The first and the last midnight (UTC) in [start, exclusive_end]; equal or reversed if it has no whole day."""
        first, last = _get_day(self.start), _get_day(self.exclusive_end)
        return (first if first == self.start else _add(first, _DAY)), last


def complete_range(start: datetime | None, end: datetime | None, now: datetime) -> TimeRange:
    """The range from `start` to `end`; a border that is missing is chosen on a full hour.

    The end is that of this hour tomorrow, the start 30 days before now, or before the end if that has passed. A range
    whose start was given may end before it starts.
    """
    end = end or _get_hour(now) + _DAY + _HOUR - STEP
    until = min(_add(end, STEP), _get_hour(now))
    return TimeRange(start or max(until, EARLIEST + _DEFAULT_LENGTH) - _DEFAULT_LENGTH, end)


def _add(at: datetime, length: timedelta) -> datetime:
    """The time so much later, or the last moment of the calendar."""
    return at + length if at <= LATEST - length else LATEST


def _get_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _get_day(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
