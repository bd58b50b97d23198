"""Times and dates to and from PostgreSQL, each as the moment that it is.

asyncpg takes the first and the last moment of Python's calendar for -infinity and infinity, and dates likewise
(asyncpg/pgproto/codecs/datetime.pyx). An event may have either time. A comparison with the stored row then finds
nothing, and a second row beside it is at infinity. These codecs replace asyncpg's on a connection.

A time without a time zone is a TypeError, which asyncpg raises as DataError. An infinite time, which only versions that
had the sentinels wrote, is read as the end of the calendar that it was written for.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_MICROSECOND_INFINITY = 2**63 - 1
_DAY_INFINITY = 2**31 - 1


def _encode_timestamp(at: datetime) -> tuple[int]:
    return ((at - _EPOCH) // _MICROSECOND,)


def _decode_timestamp(value: tuple[int]) -> datetime:
    (microseconds,) = value
    if -_MICROSECOND_INFINITY <= microseconds < _MICROSECOND_INFINITY:
        return _EPOCH + timedelta(0, 0, microseconds)
    return (datetime.max if microseconds > 0 else datetime.min).replace(tzinfo=UTC)


def _encode_date(day: date) -> tuple[int]:
    return (day.toordinal() - _EPOCH_DAY,)


def _decode_date(value: tuple[int]) -> date:
    (days,) = value
    if -_DAY_INFINITY <= days < _DAY_INFINITY:
        return date.fromordinal(_EPOCH_DAY + days)
    return date.max if days > 0 else date.min


# by type: encoder and decoder of asyncpg's format "tuple"
TIME_CODECS: Mapping[str, tuple[Callable[[Any], tuple[int]], Callable[[tuple[int]], Any]]] = {
    "timestamptz": (_encode_timestamp, _decode_timestamp),
    "date": (_encode_date, _decode_date),
}
