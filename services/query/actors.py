"""Actors: an event's actor is its user id, else its anonymous id.

Merged, an anonymous visitor and the user it became are one, and so are users of whom one became the other
(`read.identities`). Each event has one actor: an event with a user id belongs to that user, whatever user its anonymous
id was linked to before.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from services.query.conditions import (
    ANONYMOUS_ID,
    USER_ID,
    EventFilters,
    match_filters,
    match_position,
    match_range,
    match_system,
    match_system_without_index,
    match_text,
    order_events,
)
from services.query.cursor import PagePosition
from services.query.database import Row, translate_errors
from services.query.freshness import read_range_version
from services.query.sql import Fragment, match_all
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection


@dataclass(frozen=True, slots=True)
class Actor:
    """All ids of one; an anonymous id counts only where an event has no user id."""

    user_ids: Sequence[str]
    anonymous_ids: Sequence[str]


# from the user asked for, or the one that the visitor became, along all links between users, in both directions
_SELECT_ACTOR = """
with recursive users (id) as (
    select id
      from (
            select :user_id::text
            union all
            select user_id
              from read.identities
             where partner_system_id = :partner_system_id
               and kind = 'anonymous'
               and id = :anonymous_id
           ) as given (id)
     where id is not null
    union
    select linked.id
      from users
     cross join lateral (
            select user_id as id
              from read.identities
             where partner_system_id = :partner_system_id
               and kind = 'user'
               and id = users.id
            union all
            select id
              from read.identities
             where partner_system_id = :partner_system_id
               and user_id = users.id
               and kind = 'user'
           ) as linked
)
select array(select id from users) as user_ids,
       array(
            select visitor.id
              from users
             cross join lateral (
                    select id
                      from read.identities
                     where partner_system_id = :partner_system_id
                       and user_id = users.id
                       and kind = 'anonymous'
                    -- a fence: no join by anything but the key, however many users the planner believes in
                    offset 0
                   ) as visitor
       ) as anonymous_ids
"""


async def find_actor(connection: Connection, partner_system_id: UUID, filters: EventFilters) -> Actor:
    """The actor of the user id or the anonymous id of the filters, which give exactly one. Raises Unavailable."""
    text, arguments = build_actor(partner_system_id, filters).render()
    with translate_errors():
        row = await connection.fetchrow(text, *arguments)
    if row is None or not row["user_ids"]:
        return Actor([], [filters.anonymous_id or ""])
    return Actor(row["user_ids"], row["anonymous_ids"])


def build_actor(partner_system_id: UUID, filters: EventFilters) -> Fragment:
    """The statement of `find_actor`."""
    return Fragment(
        _SELECT_ACTOR,
        partner_system_id=partner_system_id,
        user_id=filters.user_id,
        anonymous_id=filters.anonymous_id,
    )


# Each id by its own index, no further than the page reaches.
_SELECT_PAGE = """
select newest.*
  from (
        select event.*
          from unnest(:user_ids::text[]) as known (user_id)
         cross join lateral (
                select *
                  from read.tracking_events_read_model
                 where :of_user
                 order by :order
                 limit :limit::bigint + :offset::bigint
               ) as event
        union all
        select event.*
          from unnest(:anonymous_ids::text[]) as known (anonymous_id)
         cross join lateral (
                select *
                  from read.tracking_events_read_model
                 where :of_visitor
                 order by :order
                 limit :limit::bigint + :offset::bigint
               ) as event
       ) as newest
 order by :order
 limit :limit offset :offset
"""


async def list_actor_events(
    connection: Connection,
    partner_system_id: UUID,
    actor: Actor,
    position: PagePosition,
    filters: EventFilters,
    *,
    limit: int,
    offset: int,
) -> Sequence[Row]:
    """Events of the actor in the order of the position, `offset` after it; the ids of the filters do not matter.

    Raises Unavailable.
    """
    statement = build_actor_page(partner_system_id, actor, position, filters, limit=limit, offset=offset)
    text, arguments = statement.render()
    with translate_errors():
        return await connection.fetch(text, *arguments)


def build_actor_page(
    partner_system_id: UUID,
    actor: Actor,
    position: PagePosition,
    filters: EventFilters,
    *,
    limit: int,
    offset: int,
) -> Fragment:
    """The statement of `list_actor_events`."""
    return Fragment(
        _SELECT_PAGE,
        of_user=_match_user(match_position(position), filters),
        of_visitor=_match_visitor(match_position(position), filters),
        order=order_events(position),
        partner_system_id=partner_system_id,
        user_ids=actor.user_ids,
        anonymous_ids=actor.anonymous_ids,
        limit=limit,
        offset=offset,
    )


_COUNT_ACTOR_EVENTS = """
select coalesce(sum(number), 0)::bigint
  from (
        select counted.number
          from unnest(:user_ids::text[]) as known (user_id)
         cross join lateral (
                select count(*) as number
                  from read.tracking_events_read_model
                 where :of_user
               ) as counted
        union all
        select counted.number
          from unnest(:anonymous_ids::text[]) as known (anonymous_id)
         cross join lateral (
                select count(*) as number
                  from read.tracking_events_read_model
                 where :of_visitor
               ) as counted
       ) as part
"""


async def count_actor_events(
    connection: Connection, partner_system_id: UUID, actor: Actor, within: TimeRange, filters: EventFilters
) -> int:
    """How many events of the actor there are on all pages. Raises Unavailable."""
    text, arguments = build_actor_count(partner_system_id, actor, within, filters).render()
    with translate_errors():
        number: int = await connection.fetchval(text, *arguments)
    return number


def build_actor_count(partner_system_id: UUID, actor: Actor, within: TimeRange, filters: EventFilters) -> Fragment:
    """The statement of `count_actor_events`."""
    return Fragment(
        _COUNT_ACTOR_EVENTS,
        of_user=_match_user(match_range(within), filters),
        of_visitor=_match_visitor(match_range(within), filters),
        partner_system_id=partner_system_id,
        user_ids=actor.user_ids,
        anonymous_ids=actor.anonymous_ids,
    )


def _match_user(within: Fragment, filters: EventFilters) -> Fragment:
    """Events of `known.user_id`."""
    user = match_text(USER_ID, Fragment("known.user_id"))
    return match_all([match_system_without_index(), user, within, *_match_other_filters(filters)])


def _match_visitor(within: Fragment, filters: EventFilters) -> Fragment:
    """Events of `known.anonymous_id` that no user id claims."""
    visitor = match_text(ANONYMOUS_ID, Fragment("known.anonymous_id"))
    is_no_user = Fragment("user_id is null")
    return match_all([match_system_without_index(), visitor, is_no_user, within, *_match_other_filters(filters)])


def _match_other_filters(filters: EventFilters) -> Iterator[Fragment]:
    return match_filters(replace(filters, user_id=None, anonymous_id=None))


_COUNT_ACTORS = """
select count(*)
  from (
        select user_id, case when user_id is null then anonymous_id end
          from read.tracking_events_read_model
         where :conditions
         group by 1, 2
       ) as actors
"""

_COUNT_MERGED_ACTORS = """
with seen as materialized (
    select user_id, case when user_id is null then anonymous_id end as anonymous_id
      from read.tracking_events_read_model
     where :conditions
     group by 1, 2
)
select count(*)
  from (
        select coalesce(final.final_user_id, seen.user_id, became.user_id),
               case when became.user_id is null then seen.anonymous_id end
          from seen
          left join read.identities as became
            on became.partner_system_id = :partner_system_id
           and became.kind = 'anonymous'
           and became.id = seen.anonymous_id
          left join read.final_users(:partner_system_id) as final on final.id = coalesce(seen.user_id, became.user_id)
         group by 1, 2
       ) as actors
"""

# For a month without planner statistics PostgreSQL may expect one actor where there are a hundred thousand, and choose
# a nested loop. The events of one system among many are found by a bitmap scan, which becomes lossy, and slow, if
# work_mem is too small for the bitmap.
PLAN_FOR_MANY_ROWS = """
set local enable_nestloop = off;
set local work_mem = '32MB'
"""

_SELECT_IDENTITY_VERSION = """
select version
  from read.identity_versions
 where partner_system_id = :partner_system_id
"""


@dataclass(frozen=True, slots=True)
class ActorsQuestion:
    """How many actors a range has."""

    partner_system_id: UUID
    within: TimeRange
    should_include_bots: bool
    is_merged: bool


async def read_version(connection: Connection, asked: ActorsQuestion) -> list[int]:
    """Changes with each change to the range's events and, if actors are merged, with each to the links.

    Raises Unavailable.
    """
    text, arguments = Fragment(_SELECT_IDENTITY_VERSION, partner_system_id=asked.partner_system_id).render()
    with translate_errors():
        links = await connection.fetchval(text, *arguments) if asked.is_merged else None
    return [await read_range_version(connection, asked.partner_system_id, asked.within), links or 0]


async def count_actors_with_version(connection: Connection, asked: ActorsQuestion) -> tuple[int, list[int]]:
    """How many actors the range's events have, and the version it is of, as they were at one moment.

    Raises Unavailable.
    """
    text, arguments = build_actors_count(asked).render()
    with translate_errors():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            version = await read_version(connection, asked)
            await connection.execute(PLAN_FOR_MANY_ROWS)
            return await connection.fetchval(text, *arguments), version


def build_actors_count(asked: ActorsQuestion) -> Fragment:
    """The number of actors; it is planned after PLAN_FOR_MANY_ROWS."""
    conditions = [match_system(), match_range(asked.within)]
    if not asked.should_include_bots:
        conditions.append(Fragment("not is_bot"))
    conditions.append(Fragment("user_id is not null or anonymous_id is not null"))
    matched = match_all(conditions)
    if asked.is_merged:
        return Fragment(_COUNT_MERGED_ACTORS, conditions=matched, partner_system_id=asked.partner_system_id)
    return Fragment(_COUNT_ACTORS, conditions=matched, partner_system_id=asked.partner_system_id)
