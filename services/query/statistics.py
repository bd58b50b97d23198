"""Counts by event name for any range: whole days and hours from the rollups, the edge hours from the events."""

from datetime import datetime
from uuid import UUID

from services.query.conditions import EVENT_NAME, match_system, match_system_without_index, match_text
from services.query.database import translate_errors
from services.query.freshness import read_range_version
from services.query.sql import Fragment, match_all
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection
from tracking.tables.rollups import COUNT_KIND_INDEXES

# in the order of tracking.tables.rollups.COUNT_KINDS
CountsByKind = tuple[int, int, int, int]
CountsByName = dict[str, CountsByKind]

_SELECT_COUNTS = """
select event_name,
       sum(valid)::bigint as valid,
       sum(invalid)::bigint as invalid,
       sum(bots_valid)::bigint as bots_valid,
       sum(bots_invalid)::bigint as bots_invalid
  from (
        :parts
       ) as part
 group by event_name
 order by sum(valid) + sum(invalid) desc, event_name
"""

_SELECT_SUMS = """
select coalesce(sum(valid), 0)::bigint,
       coalesce(sum(invalid), 0)::bigint,
       coalesce(sum(bots_valid), 0)::bigint,
       coalesce(sum(bots_invalid), 0)::bigint
  from (
        :parts
       ) as part
"""

# in one snapshot
_SELECT_PARTS = """
        :days
        union all
        :hours_before_days
        union all
        :hours_after_days
        union all
        :events_before_hours
        union all
        :events_after_hours
"""

_SELECT_ROLLUP = """
        select event_name, valid, invalid, bots_valid, bots_invalid
          from :rollup
         where :conditions
"""

_COUNT_EVENTS = """
        select event_name,
               count(*) filter (where is_valid and not is_bot),
               count(*) filter (where not is_valid and not is_bot),
               count(*) filter (where is_valid and is_bot),
               count(*) filter (where not is_valid and is_bot)
          from read.tracking_events_read_model
         where :conditions
         group by event_name
"""


async def count_by_name(
    connection: Connection, partner_system_id: UUID, within: TimeRange, event_name: str | None
) -> CountsByName:
    """`{event name: (valid, invalid, valid of bots, invalid of bots)}`, most frequent first; of one name if given.

    Raises Unavailable.
    """
    text, arguments = build_counts(partner_system_id, within, event_name).render()
    with translate_errors():
        rows = await connection.fetch(text, *arguments)
    return {name: (valid, invalid, *bots) for name, valid, invalid, *bots in rows}


def build_counts(partner_system_id: UUID, within: TimeRange, event_name: str | None) -> Fragment:
    """The statement of `count_by_name`."""
    parts = _select_parts(within, event_name)
    return Fragment(_SELECT_COUNTS, parts=parts, partner_system_id=partner_system_id)


async def count_by_kind(
    connection: Connection, partner_system_id: UUID, within: TimeRange, event_name: str | None
) -> CountsByKind:
    """The sums of `count_by_name` over all names. Raises Unavailable."""
    text, arguments = build_sums(partner_system_id, within, event_name).render()
    with translate_errors():
        row = await connection.fetchrow(text, *arguments)
    valid, invalid, bots_valid, bots_invalid = row or (0, 0, 0, 0)
    return valid, invalid, bots_valid, bots_invalid


def build_sums(partner_system_id: UUID, within: TimeRange, event_name: str | None) -> Fragment:
    """The statement of `count_by_kind`."""
    parts = _select_parts(within, event_name)
    return Fragment(_SELECT_SUMS, parts=parts, partner_system_id=partner_system_id)


async def count_all(
    connection: Connection, partner_system_id: UUID, within: TimeRange, event_name: str | None = None
) -> int:
    """How many events the range has, of every kind. Raises Unavailable."""
    return sum(await count_by_kind(connection, partner_system_id, within, event_name))


def sum_kinds(counts: CountsByKind, is_valid: bool | None, is_bot: bool | None) -> int:
    """Sum the counts that are of the kinds asked for; None = either."""
    return sum(
        counts[COUNT_KIND_INDEXES[bot][valid]]
        for bot in (False, True)
        for valid in (False, True)
        if is_valid in (None, valid) and is_bot in (None, bot)
    )


def _select_parts(within: TimeRange, event_name: str | None) -> Fragment:
    start, first_hour, first_day, last_day, last_hour, end = _split_range(within)
    return Fragment(
        _SELECT_PARTS,
        days=_select_days(first_day, last_day, event_name),
        hours_before_days=_select_hours(first_hour, first_day, event_name),
        hours_after_days=_select_hours(last_day, last_hour, event_name),
        events_before_hours=_count_events(_match_before(start, first_hour), event_name),
        events_after_hours=_count_events(_match_after(last_hour, end), event_name),
    )


def _select_days(start: datetime, end: datetime, event_name: str | None) -> Fragment:
    days = Fragment(
        "day >= (:start::timestamptz at time zone 'UTC')::date and day < (:end::timestamptz at time zone 'UTC')::date",
        start=start,
        end=end,
    )
    return _select_rollup(Fragment("read.event_counts_daily"), days, event_name)


def _select_hours(start: datetime, end: datetime, event_name: str | None) -> Fragment:
    hours = Fragment("bucket >= :start and bucket < :end", start=start, end=end)
    return _select_rollup(Fragment("read.event_counts_hourly"), hours, event_name)


def _select_rollup(rollup: Fragment, within: Fragment, event_name: str | None) -> Fragment:
    conditions = [match_system(), within]
    if event_name is not None:
        conditions.append(Fragment("event_name = :event_name", event_name=event_name))
    return Fragment(_SELECT_ROLLUP, rollup=rollup, conditions=match_all(conditions))


def _match_before(start: datetime, first_hour: datetime) -> Fragment:
    return Fragment("event_timestamp >= :start and event_timestamp < :end", start=start, end=first_hour)


def _match_after(last_hour: datetime, end: datetime) -> Fragment:
    # The end of a range belongs to it. After the last moment of the calendar there is none that could be excluded.
    return Fragment("event_timestamp >= :start and event_timestamp <= :end", start=last_hour, end=end)


def _count_events(within: Fragment, event_name: str | None) -> Fragment:
    if event_name is None:
        conditions = [match_system(), within]
    else:
        conditions = [match_system_without_index(), within, match_text(EVENT_NAME, event_name)]
    return Fragment(_COUNT_EVENTS, conditions=match_all(conditions))


def _split_range(within: TimeRange) -> tuple[datetime, ...]:
    """Where the parts by events, hours, days, hours and events begin, and the last moment; ascending."""
    first_hour, last_hour = within.get_whole_hours()
    if first_hour >= last_hour:
        return (*[within.start] * 5, within.end)
    first_day, last_day = within.get_whole_days()
    if first_day >= last_day:
        first_day = last_day = last_hour
    return within.start, first_hour, first_day, last_day, last_hour, within.end


async def count_by_name_with_version(
    connection: Connection, partner_system_id: UUID, within: TimeRange
) -> tuple[CountsByName, int]:
    """Both as they were at one moment. Raises Unavailable."""
    with translate_errors():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            version = await read_range_version(connection, partner_system_id, within)
            return await count_by_name(connection, partner_system_id, within, None), version
