"""Time ranges of questions: parsed from the query string, split into whole days, whole hours and the rest."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tracking.domain.timestamps import parse_timestamp

_DEFAULT_RANGE = timedelta(days=30)
_STEP = timedelta(microseconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_DATE_CHARACTERS = 10
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC) - _DAY


def _time(value: Any) -> Any:
    """ISO 8601; a + that nobody encoded arrives as a space."""
    if not isinstance(value, str):
        return value
    parsed = parse_timestamp(value.replace(" ", "+") if "T" in value else value)
    if parsed is None:
        raise ValueError("not an ISO 8601 time such as 2025-12-01T00:00:00Z")
    return min(parsed, _LATEST)


def _last_moment(value: Any) -> Any:
    """As `_time`; a date alone means the whole day."""
    parsed = _time(value)
    if isinstance(value, str) and len(value) <= _DATE_CHARACTERS and isinstance(parsed, datetime):
        return parsed + _DAY - _STEP
    return parsed


@dataclass(frozen=True, slots=True)
class TimeRange:
    """start <= t <= end, in UTC."""

    start: datetime
    end: datetime

    @property
    def exclusive_end(self) -> datetime:
        """The first moment after it; PostgreSQL counts microseconds too."""
        return self.end + _STEP

    def whole_hours(self) -> "tuple[datetime, datetime]":
        """The first and the last hour border inside [start, stop]; equal or reversed if it holds no whole hour."""
        first, last = _hour_of(self.start), _hour_of(self.exclusive_end)
        return (first if first == self.start else first + _HOUR), last

    def whole_days(self) -> "tuple[datetime, datetime]":
        """The first and the last midnight (UTC) inside [start, stop]; equal or reversed if it holds no whole day."""
        first, last = _day_of(self.start), _day_of(self.exclusive_end)
        return (first if first == self.start else first + _DAY), last


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _day_of(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
