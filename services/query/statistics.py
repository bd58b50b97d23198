"""Counts by event name for any range: whole days and hours from the rollups, the edge hours from the events."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.query.conditions import EVENT_NAME, match_system, match_system_without_index, match_text
from services.query.cursor import NamePosition
from services.query.database import translate_errors
from services.query.freshness import read_range_version
from services.query.sql import Fragment, match_all
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection
from tracking.tables.rollups import COUNT_KIND_INDEXES

# in the order of tracking.tables.rollups.COUNT_KINDS
CountsByKind = tuple[int, int, int, int]
_NUMBER = Fragment("(valid + invalid)")
_NUMBER_WITH_BOTS = Fragment("(valid + invalid + bots_valid + bots_invalid)")

# The names of a page beside the sums of all, which are there also if the page is empty.
_SELECT_NAMES = """
with counted as materialized (
    select event_name,
           sum(valid)::bigint as valid,
           sum(invalid)::bigint as invalid,
           sum(bots_valid)::bigint as bots_valid,
           sum(bots_invalid)::bigint as bots_invalid
      from (
        :parts
           ) as part
     group by event_name
), total as (
    select coalesce(sum(valid), 0)::bigint as valid,
           coalesce(sum(invalid), 0)::bigint as invalid,
           coalesce(sum(bots_valid), 0)::bigint as bots_valid,
           coalesce(sum(bots_invalid), 0)::bigint as bots_invalid,
           count(*) filter (where :number > 0) as names
      from counted
), page as (
    select event_name,
           :number as number
      from counted
     where :number > 0
       and :behind
     order by number desc, event_name
     limit :limit
)
select total.*,
       page.event_name,
       page.number
  from total
  left join page on true
 order by page.number desc, page.event_name
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


@dataclass(frozen=True, slots=True)
class NamesPage:
    """Which event names are asked for: at most `limit` behind the position, counted with or without bots."""

    limit: int
    should_include_bots: bool = False
    behind: NamePosition | None = None


@dataclass(frozen=True, slots=True)
class NameCounts:
    """`of_page` has the most frequent names first, with their numbers of events; the others are of the whole range."""

    by_kind: CountsByKind
    names: int
    of_page: Sequence[tuple[str, int]]


async def count_by_name(
    connection: Connection, partner_system_id: UUID, within: TimeRange, page: NamesPage
) -> NameCounts:
    """The counts of a page of event names, and those of all. Raises Unavailable."""
    text, arguments = build_names(partner_system_id, within, page).render()
    with translate_errors():
        rows = await connection.fetch(text, *arguments)
    valid, invalid, bots_valid, bots_invalid, names, *_ = rows[0]
    of_page = [(row["event_name"], row["number"]) for row in rows if row["event_name"] is not None]
    return NameCounts((valid, invalid, bots_valid, bots_invalid), names, of_page)


def build_names(partner_system_id: UUID, within: TimeRange, page: NamesPage) -> Fragment:
    """The statement of `count_by_name`."""
    return Fragment(
        _SELECT_NAMES,
        parts=_select_parts(within, None),
        number=_NUMBER_WITH_BOTS if page.should_include_bots else _NUMBER,
        behind=_match_names(page),
        limit=page.limit,
        partner_system_id=partner_system_id,
    )


def _match_names(page: NamesPage) -> Fragment:
    if page.behind is None:
        return match_all([])
    return Fragment(
        "(:number < :count::bigint or (:number = :count and event_name > :name))",
        number=_NUMBER_WITH_BOTS if page.should_include_bots else _NUMBER,
        count=page.behind.count,
        name=page.behind.name,
    )


async def count_by_kind(
    connection: Connection, partner_system_id: UUID, within: TimeRange, event_name: str | None
) -> CountsByKind:
    """The counts of a range, or of one event name in it. Raises Unavailable."""
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
    first_hour, first_day, last_day, last_hour = _split_range(within)
    return Fragment(
        _SELECT_PARTS,
        days=_select_days(first_day, last_day, event_name),
        hours_before_days=_select_hours(first_hour, first_day, event_name),
        hours_after_days=_select_hours(last_day, last_hour, event_name),
        events_before_hours=_count_events(_match_before(within.raw_start, first_hour), event_name),
        events_after_hours=_count_events(_match_after(max(last_hour, within.raw_start), within.end), event_name),
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
    """Where the parts by hours, days and hours begin, and the last of them ends; ascending."""
    first_hour, last_hour = within.get_whole_hours()
    if first_hour >= last_hour:
        return (within.start,) * 4
    first_day, last_day = within.get_whole_days()
    if first_day >= last_day:
        first_day = last_day = last_hour
    return first_hour, first_day, last_day, last_hour


async def count_by_name_with_version(
    connection: Connection, partner_system_id: UUID, within: TimeRange, page: NamesPage
) -> tuple[NameCounts, int]:
    """Both as they were at one moment. Raises Unavailable."""
    with translate_errors():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            version = await read_range_version(connection, partner_system_id, within)
            return await count_by_name(connection, partner_system_id, within, page), version
