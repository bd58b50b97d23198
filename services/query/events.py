"""Events of the read model: a page of them, how many there are, and one by its id.

Statements are planned anew with their values, which takes half a millisecond.
"""

from collections.abc import Sequence
from uuid import UUID

from services.query.conditions import (
    CORRELATION_ID,
    EventFilters,
    compare_filters,
    compare_position,
    match_filters,
    match_id_without_time,
    match_position,
    match_range,
    match_system,
    match_system_for,
    match_system_without_index,
    match_text,
    order_events,
)
from services.query.cursor import PagePosition
from services.query.database import Row, translate_errors
from services.query.sql import Fragment, match_all
from services.query.time_range import TimeRange
from tracking.domain.ids import derive_dated_id, derive_event_id
from tracking.infra.postgres import Connection

_SELECT_PAGE = """
select *
  from :events
 where :conditions
 order by :order
 limit :limit offset :offset
"""

_COUNT_EVENTS = """
select count(*)
  from :events
 where :conditions
"""

_TABLE = Fragment("read.tracking_events_read_model")
_FOUND = Fragment("found")

# First all events of the request: a planner without statistics (a new month) would rather read the whole range in order
# than believe in an index that is not in the page's order.
_SELECT_FROM_FOUND = """
with found as materialized (
    :found
)
:statement
"""

_SELECT_REQUEST = """
    select *
      from read.tracking_events_read_model
     where :of_request
"""

# The id of an event is derived from its message id and, unless that is a name, from its time. The time is not known, so
# the ids without one are looked up, and only if none is there all others of the range are compared, in the primary key
# alone. Why there is no index of message ids: docs/decisions/0012.
_SELECT_BY_MESSAGE_ID = """
    with named as materialized (
        select event_timestamp,
               id
          from read.tracking_events_read_model
         where :named
    ), place as materialized (
        select *
          from named
        union all
        select event_timestamp,
               id
          from read.tracking_events_read_model
         where :others
           and not exists (select from named)
    )
    select event.*
      from place
     cross join lateral (
            select *
              from read.tracking_events_read_model
             where partner_system_id = :partner_system_id
               and event_timestamp = place.event_timestamp
               and id = place.id
             offset 0
           ) as event
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
    """Events of a system in the order of the position, `offset` after it. Raises Unavailable, as all functions here."""
    text, arguments = build_page(partner_system_id, position, filters, limit=limit, offset=offset).render()
    with translate_errors():
        return await connection.fetch(text, *arguments)


def build_page(
    partner_system_id: UUID, position: PagePosition, filters: EventFilters, *, limit: int, offset: int
) -> Fragment:
    """The statement of `list_events`."""
    if filters.correlation_id is None and filters.message_id is None:
        conditions = [match_system_for(filters), match_position(position), *match_filters(filters)]
        return Fragment(
            _SELECT_PAGE,
            events=_TABLE,
            conditions=match_all(conditions),
            order=order_events(position),
            partner_system_id=partner_system_id,
            limit=limit,
            offset=offset,
        )
    page = Fragment(
        _SELECT_PAGE,
        events=_FOUND,
        conditions=match_all([compare_position(position), *compare_filters(filters)]),
        order=order_events(position),
        limit=limit,
        offset=offset,
    )
    return _select_from_found(partner_system_id, position.get_rest(), filters, page)


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
    if filters.correlation_id is None and filters.message_id is None:
        conditions = [match_system_for(filters), match_range(within), *match_filters(filters)]
        return Fragment(
            _COUNT_EVENTS, events=_TABLE, conditions=match_all(conditions), partner_system_id=partner_system_id
        )
    count = Fragment(_COUNT_EVENTS, events=_FOUND, conditions=match_all(compare_filters(filters)))
    return _select_from_found(partner_system_id, within, filters, count)


def _select_from_found(
    partner_system_id: UUID, within: TimeRange, filters: EventFilters, statement: Fragment
) -> Fragment:
    """The statement over the events that have the message id or else the correlation id of the filters."""
    if filters.message_id is None:
        of_request = [match_text(CORRELATION_ID, filters.correlation_id or ""), match_range(within)]
        found = Fragment(_SELECT_REQUEST, of_request=match_all([match_system_without_index(), *of_request]))
    else:
        dated_id = derive_dated_id(partner_system_id, filters.message_id, None)
        undated_ids = [derive_event_id(partner_system_id, filters.message_id, None), dated_id]
        is_undated = Fragment("id = any(:undated_ids::uuid[])", undated_ids=undated_ids)
        named = [match_system_without_index(), is_undated, match_range(within)]
        others = [match_system(), match_id_without_time(dated_id), match_range(within)]
        found = Fragment(_SELECT_BY_MESSAGE_ID, named=match_all(named), others=match_all(others))
    return Fragment(_SELECT_FROM_FOUND, found=found, statement=statement, partner_system_id=partner_system_id)


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
