"""Events of the read model: a page of them, how many there are, and one by its id.

Statements are planned anew with their values, which takes half a millisecond.
"""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from services.query.conditions import (
    CORRELATION_ID,
    EventFilters,
    compare_filters,
    compare_position,
    match_filters,
    match_position,
    match_range,
    match_system_for,
    match_system_without_index,
    match_text,
)
from services.query.cursor import PagePosition
from services.query.database import Row, translate_errors
from services.query.sql import Fragment, match_all
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection

_SELECT_PAGE = """
select *
  from :events
 where :conditions
 order by event_timestamp desc, id desc
 limit :limit offset :offset
"""

_COUNT_EVENTS = """
select count(*)
  from :events
 where :conditions
"""

_TABLE = Fragment("read.tracking_events_read_model")
_REQUEST = Fragment("request")

# First all events of the request: a planner without statistics (a new month) would rather read the whole range in order
# than believe in an index that is not in the page's order.
_SELECT_FROM_REQUEST = """
with request as materialized (
    select *
      from read.tracking_events_read_model
     where :of_request
)
:statement
"""


async def list_events(
    connection: Connection,
    partner_system_id: UUID,
    position: PagePosition,
    filters: EventFilters,
    *,
    limit: int,
    offset: int,
) -> Sequence[Row]:
    """Events of a system, newest first, `offset` after the position. Raises Unavailable, as every function here."""
    text, arguments = build_page(partner_system_id, position, filters, limit=limit, offset=offset).render()
    with translate_errors():
        return await connection.fetch(text, *arguments)


def build_page(
    partner_system_id: UUID, position: PagePosition, filters: EventFilters, *, limit: int, offset: int
) -> Fragment:
    """The statement of `list_events`."""
    if filters.correlation_id is None:
        conditions = [match_system_for(filters), match_position(position), *match_filters(filters)]
        return Fragment(
            _SELECT_PAGE,
            events=_TABLE,
            conditions=match_all(conditions),
            partner_system_id=partner_system_id,
            limit=limit,
            offset=offset,
        )
    rest = replace(filters, correlation_id=None)
    page = Fragment(
        _SELECT_PAGE,
        events=_REQUEST,
        conditions=match_all([compare_position(position), *compare_filters(rest)]),
        limit=limit,
        offset=offset,
    )
    up_to_position = TimeRange(position.within.start, position.before)
    return _select_from_request(partner_system_id, up_to_position, filters.correlation_id, page)


async def count_events(
    connection: Connection, partner_system_id: UUID, within: TimeRange, filters: EventFilters
) -> int:
    """How many events have what the filters ask for, by the events themselves."""
    text, arguments = build_count(partner_system_id, within, filters).render()
    with translate_errors():
        number: int = await connection.fetchval(text, *arguments)
    return number


def build_count(partner_system_id: UUID, within: TimeRange, filters: EventFilters) -> Fragment:
    """The statement of `count_events`."""
    if filters.correlation_id is None:
        conditions = [match_system_for(filters), match_range(within), *match_filters(filters)]
        return Fragment(
            _COUNT_EVENTS, events=_TABLE, conditions=match_all(conditions), partner_system_id=partner_system_id
        )
    rest = replace(filters, correlation_id=None)
    count = Fragment(_COUNT_EVENTS, events=_REQUEST, conditions=match_all(compare_filters(rest)))
    return _select_from_request(partner_system_id, within, filters.correlation_id, count)


def _select_from_request(
    partner_system_id: UUID, within: TimeRange, correlation_id: str, statement: Fragment
) -> Fragment:
    conditions = [match_system_without_index(), match_text(CORRELATION_ID, correlation_id), match_range(within)]
    return Fragment(
        _SELECT_FROM_REQUEST,
        of_request=match_all(conditions),
        statement=statement,
        partner_system_id=partner_system_id,
    )


_SELECT_EVENT = """
select *
  from read.tracking_events_read_model
 where :conditions
 order by event_timestamp
 limit 1
"""


async def find_event(connection: Connection, event_id: UUID, partner_id: UUID | None) -> Row | None:
    """One event, if it is of that partner or all partners may be seen."""
    text, arguments = build_event(event_id, partner_id).render()
    with translate_errors():
        return await connection.fetchrow(text, *arguments)


def build_event(event_id: UUID, partner_id: UUID | None) -> Fragment:
    """The statement of `find_event`."""
    is_kept = Fragment("not exists (select from read.retention where raw_since > event_timestamp)")
    conditions = [Fragment("id = :event_id", event_id=event_id), is_kept]
    if partner_id is not None:
        conditions.append(Fragment("partner_id = :partner_id", partner_id=partner_id))
    return Fragment(_SELECT_EVENT, conditions=match_all(conditions))
