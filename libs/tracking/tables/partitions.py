"""Which tables have monthly partitions, and for which months they are created.

Migrations create those around the present, the relay those to come, and a rebuild those of the batches it reads. Each
uses the SQL functions `create_partition` of its database. This module has dates and names only, so that migrations
need no other module of the library.
"""

from datetime import date

# by schema
PARTITIONED_TABLES = {
    "write": ("tracking_events", "event_batches"),
    "read": ("tracking_events_read_model", "applied_batches"),
}
MONTHS_BACK, MONTHS_AHEAD = 13, 3


def list_months_around(today: date, back: int, ahead: int) -> list[date]:
    """Return the first days of the months from `back` before to `ahead` after that of `today`."""
    index = _get_month_index(today)
    return _list_months(index - back, index + ahead)


def list_months_between(first: date, last: date) -> list[date]:
    """Return the first days of the months from that of `first` to that of `last`."""
    return _list_months(_get_month_index(first), _get_month_index(last))


def _get_month_index(day: date) -> int:
    return day.year * 12 + day.month - 1


def _list_months(first: int, last: int) -> list[date]:
    return [date(index // 12, index % 12 + 1, 1) for index in range(first, last + 1)]
