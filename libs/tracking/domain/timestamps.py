"""Timestamps: read from what senders write, and the event timestamp after clock skew correction.

A text is a time of ISO 8601 or RFC 3339, or a number. A number is read as seconds, milliseconds, microseconds or
nanoseconds since 1970; which of them follows from its size, as the ranges lie apart (1973 to 2286 in each unit). Digits
alone that are no such number are a date, or a date and a time, in ISO's basic format.
"""

import re
from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TRUSTED_SKEW = timedelta(seconds=60)
_MAX_AHEAD = timedelta(hours=23)
_MAX_TIMESTAMP_CHARACTERS = 40
# The numbers that are seconds; a thousand times as many of each smaller unit.
_FIRST_SECOND, _LAST_SECOND = 10**8, 10**10
_NUMBER = re.compile(r"(\d{9,19})(?:\.(\d{1,12}))?", re.ASCII)
_DATE_TEXT = (
    r"(?P<year>\d{4}|\+\d{6})"
    r"(?:-(?P<month>\d\d)-(?P<day>\d\d)|(?P<basic_month>\d\d)(?P<basic_day>\d\d)"
    r"|(?P<dash>-?)W(?P<week>\d\d)(?:(?P=dash)(?P<weekday>[1-7]))?|-?(?P<ordinal>\d{3}))"
)
_DATE = re.compile(_DATE_TEXT, re.ASCII)
_DATE_TIME = re.compile(
    _DATE_TEXT + r"(?:[T ](?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d))?)?(?:[.,](?P<fraction>\d+))?"
    r"(?:Z|(?P<sign>[+\-\u2212 ])(?P<zone_hour>\d\d)(?::?(?P<zone_minute>\d\d)(?::?(?P<zone_second>\d\d))?)?)?)?",
    re.ASCII,
)
_BASIC_WITHOUT_MARK = re.compile(r"(\d{8})(\d{6})", re.ASCII)


def to_unix_ms(at: datetime) -> int:
    """Whole milliseconds since 1970, rounded down; exact, as `timestamp() * 1000` is not."""
    return (at - _EPOCH) // _MILLISECOND


def read_time(value: object) -> datetime | None:
    """Read a value of JSON, a text or a number, as a time in UTC. None if it cannot be read."""
    if isinstance(value, str):
        return parse_timestamp(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 < value < 10**19:  # NaN too
        return None
    return _read_number(value, 0, 1) if isinstance(value, int) else _read_number(*_split(value))


def parse_timestamp(text: str) -> datetime | None:
    """Read a time as UTC; without `Z` or an offset it is taken as UTC. None if it cannot be read."""
    if len(text) > _MAX_TIMESTAMP_CHARACTERS or "\x00" in text:  # Python 3.11 stops reading at a NUL
        return None
    try:
        # nearly all have this form; others may mean something else than Python takes them for
        if text[16:17] != ":" or text[10] != "T" or text[4] != "-":
            return _parse_patiently(text.strip().upper())
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is UTC:
            return parsed
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return _parse_patiently(text.strip().upper())


def names_day(text: str) -> bool:
    """Return whether a text that can be read is a date without a time."""
    return _DATE.fullmatch(text.strip().upper()) is not None


def correct_clock_skew(
    original: datetime | None, sent_at: datetime | None, received_at: datetime
) -> tuple[datetime, bool]:
    """The time analytics use, and whether the client's clock had to be corrected.

    A client whose clock is off by more than 60 s (judged by `sent_at`) keeps its distances: what it called an hour
    before sending becomes an hour before receiving. A `sent_at` before the event itself is not of the clock that made
    the event, and proves nothing. More than 23 h ahead is no time at all: received_at then.
    """
    if original is None:
        return received_at, False
    corrected, is_adjusted = original, False
    if sent_at is not None and sent_at >= original and abs(received_at - sent_at) > _TRUSTED_SKEW:
        try:
            corrected, is_adjusted = received_at - (sent_at - original), True
        except OverflowError:
            return received_at, True
    if corrected - received_at > _MAX_AHEAD:
        return received_at, True
    return corrected, is_adjusted


def _split(number: float) -> tuple[int, int, int]:
    """Return a number as whole ones and a fraction."""
    numerator, denominator = number.as_integer_ratio()
    whole, rest = divmod(numerator, denominator)
    return whole, rest, denominator


def _read_number(whole: int, numerator: int, denominator: int) -> datetime | None:
    """Return the time of a number with a fraction in the unit in whose range it lies; None if it lies in none."""
    units_a_second = 1
    for _ in range(4):
        if _FIRST_SECOND * units_a_second <= whole < _LAST_SECOND * units_a_second:
            scaled = (whole * denominator + numerator) * 1_000_000
            divisor = denominator * units_a_second
            return _EPOCH + timedelta(microseconds=(2 * scaled + divisor) // (2 * divisor))
        units_a_second *= 1000
    return None


def _parse_patiently(text: str) -> datetime | None:
    number = _NUMBER.fullmatch(text)
    if number is not None:
        fraction = number[2] or ""
        found = _read_number(int(number[1]), int(fraction or 0), 10 ** len(fraction))
        if found is not None:
            return found
    text = _BASIC_WITHOUT_MARK.sub(r"\1T\2", text) if len(text) == len("20251224103000") else text
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    try:
        return _to_moment(match.groupdict())
    except (ValueError, OverflowError):
        return None


def _to_moment(parts: dict[str, str | None]) -> datetime | None:
    """Return the moment, or None if the time is none of a clock. Raises ValueError, OverflowError for no date."""
    day = _to_date(parts)
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    if parts["hour"] is None:
        return at
    hour, minute, second = (int(parts[name] or 0) for name in ("hour", "minute", "second"))
    # 24:00 is the next midnight, and a leap second the second after
    if minute > 59 or second > 60 or hour > 24 or (hour == 24 and (minute or second or int(parts["fraction"] or 0))):
        return None
    smallest = 1 if parts["second"] is not None else 60 if parts["minute"] is not None else 3600
    fraction = (parts["fraction"] or "0")[:12]
    microseconds = int(fraction) * smallest * 1_000_000 // 10 ** len(fraction)
    zone = _to_zone(parts)
    if zone is None:
        return None
    return at + (timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microseconds) - zone)


def _to_date(parts: dict[str, str | None]) -> date:
    year = int(parts["year"] or 0)
    if parts["week"] is not None:
        return date.fromisocalendar(year, int(parts["week"]), int(parts["weekday"] or 1))
    if parts["ordinal"] is not None:
        day = date(year, 1, 1) + timedelta(days=int(parts["ordinal"]) - 1)
        if day.year != year:
            raise ValueError("the year has no such day")
        return day
    return date(year, int(parts["month"] or parts["basic_month"] or 0), int(parts["day"] or parts["basic_day"] or 0))


def _to_zone(parts: dict[str, str | None]) -> timedelta | None:
    """Return the offset from UTC; a "+" that a query made a space is a "+" again."""
    if parts["sign"] is None:
        return timedelta()
    hours, minutes, seconds = (int(parts[f"zone_{name}"] or 0) for name in ("hour", "minute", "second"))
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return -offset if parts["sign"] in "-\u2212" else offset
