"""Timestamps: parsed from ISO 8601, and the event timestamp after clock skew correction."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TRUSTED_SKEW = timedelta(seconds=60)
_MAX_AHEAD = timedelta(hours=23)
_MAX_TIMESTAMP_CHARACTERS = 40


def to_unix_ms(at: datetime) -> int:
    """Whole milliseconds since 1970, rounded down; exact, as `timestamp() * 1000` is not."""
    return (at - _EPOCH) // _MILLISECOND


def parse_timestamp(text: str) -> datetime | None:
    """ISO 8601 with `Z` or an offset, as UTC; without one it is taken as UTC. None if it cannot be read."""
    if len(text) > _MAX_TIMESTAMP_CHARACTERS or "\x00" in text:  # Python 3.11 stops reading at a NUL
        return None
    try:
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is UTC:
            return parsed
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def correct_clock_skew(
    original: datetime | None, sent_at: datetime | None, received_at: datetime
) -> tuple[datetime, bool]:
    """The time analytics use, and whether the client's clock had to be corrected.

    A client whose clock is off by more than 60 s (judged by `sent_at`) keeps its distances: what it called an hour
    before sending becomes an hour before receiving. More than 23 h ahead is no time at all: received_at then.
    """
    if original is None:
        return received_at, False
    corrected, is_adjusted = original, False
    if sent_at is not None and abs(received_at - sent_at) > _TRUSTED_SKEW:
        try:
            corrected, is_adjusted = received_at - (sent_at - original), True
        except OverflowError:
            return received_at, True
    if corrected - received_at > _MAX_AHEAD:
        return received_at, True
    return corrected, is_adjusted
