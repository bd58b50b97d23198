"""Actors: whoever is behind an event, by its user id, else by its anonymous id.

Merged, an anonymous visitor and the user it became are one, and so are users of whom one became the other
(`read.identities`). Each event has one actor: what a known user does on a device is that user's, whoever the device was
linked to before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.query.cursor import PagePosition
from services.query.database import Row, translate_errors
from services.query.freshness import read_range_version
from services.query.parameters import EventFilters
from services.query.time_range import TimeRange
from tracking.infra.postgres import Connection, Pool


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
            select $2::text
            union all
            select user_id
              from read.identities
             where partner_system_id = $1
               and kind = 'anonymous'
               and id = $3
           ) as given (id)
     where id is not null
    union
    select linked.id
      from users
     cross join lateral (
            select user_id as id
              from read.identities
             where partner_system_id = $1
               and kind = 'user'
               and id = users.id
            union all
            select id
              from read.identities
             where partner_system_id = $1
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
                     where partner_system_id = $1
                       and user_id = users.id
                       and kind = 'anonymous'
                    -- a fence: no join by anything but the key, however many users the planner believes in
                    offset 0
                   ) as visitor
       ) as anonymous_ids
"""


async def find_actor(pool: Pool, system_id: UUID, filters: EventFilters) -> Actor:
    """The actor that the user id or the anonymous id of the filters belongs to; of both, exactly one is given."""
    with translate_errors():
        row = await pool.fetchrow(_SELECT_ACTOR, system_id, filters.user_id, filters.anonymous_id)
    if row is None or not row["user_ids"]:
        return Actor([], [filters.anonymous_id or ""])
    return Actor(row["user_ids"], row["anonymous_ids"])


# each id by its own index, no further than the page reaches; keys, and the system as text, as in `views`
_PAGE = """
select newest.*
  from (
        select event.*
          from unnest($6::text[]) as known (user_id)
         cross join lateral (
                select *
                  from read.tracking_events_read_model
                 where partner_system_id::text = $1::uuid::text
                   and read.text_key(partner_system_id, user_id) = read.text_key($1, known.user_id)
                   and user_id = known.user_id
                   and event_timestamp >= $2
                   and event_timestamp <= $3
                   and (event_timestamp, id) < ($3, $4)
                   and ($5::text is null
                        or read.text_key(partner_system_id, event_name) = read.text_key($1, $5)
                           and event_name = $5)
                   and ($8::boolean is null or is_valid = $8)
                   and ($9::text is null
                        or read.text_key(partner_system_id, correlation_id) = read.text_key($1, $9)
                           and correlation_id = $9)
                   and ($10::text is null or coalesce(event_type, 'track') = $10)
                   and ($11::boolean is null or is_bot = $11)
                 order by event_timestamp desc, id desc
                 limit $12::bigint + $13::bigint
               ) as event
        union all
        select event.*
          from unnest($7::text[]) as known (anonymous_id)
         cross join lateral (
                select *
                  from read.tracking_events_read_model
                 where partner_system_id::text = $1::uuid::text
                   and read.text_key(partner_system_id, anonymous_id) = read.text_key($1, known.anonymous_id)
                   and anonymous_id = known.anonymous_id
                   and user_id is null
                   and event_timestamp >= $2
                   and event_timestamp <= $3
                   and (event_timestamp, id) < ($3, $4)
                   and ($5::text is null
                        or read.text_key(partner_system_id, event_name) = read.text_key($1, $5)
                           and event_name = $5)
                   and ($8::boolean is null or is_valid = $8)
                   and ($9::text is null
                        or read.text_key(partner_system_id, correlation_id) = read.text_key($1, $9)
                           and correlation_id = $9)
                   and ($10::text is null or coalesce(event_type, 'track') = $10)
                   and ($11::boolean is null or is_bot = $11)
                 order by event_timestamp desc, id desc
                 limit $12::bigint + $13::bigint
               ) as event
       ) as newest
 order by event_timestamp desc, id desc
 limit $12 offset $13
"""


async def list_actor_events(
    pool: Pool, system_id: UUID, actor: Actor, position: PagePosition, filters: EventFilters, *, limit: int, offset: int
) -> Sequence[Row]:
    """Events of the actor, as `views.page`; the filters' own ids do not matter. Raises Unavailable, as all here."""
    before = (position.within.start, position.before, position.before_id)
    with translate_errors():
        return await pool.fetch(_PAGE, system_id, *before, *_bind(actor, filters), limit, offset)


_COUNT = """
select coalesce(sum(number), 0)::bigint
  from (
        select counted.number
          from unnest($5::text[]) as known (user_id)
         cross join lateral (
                select count(*) as number
                  from read.tracking_events_read_model
                 where partner_system_id::text = $1::uuid::text
                   and read.text_key(partner_system_id, user_id) = read.text_key($1, known.user_id)
                   and user_id = known.user_id
                   and event_timestamp >= $2
                   and event_timestamp <= $3
                   and ($4::text is null
                        or read.text_key(partner_system_id, event_name) = read.text_key($1, $4)
                           and event_name = $4)
                   and ($7::boolean is null or is_valid = $7)
                   and ($8::text is null
                        or read.text_key(partner_system_id, correlation_id) = read.text_key($1, $8)
                           and correlation_id = $8)
                   and ($9::text is null or coalesce(event_type, 'track') = $9)
                   and ($10::boolean is null or is_bot = $10)
               ) as counted
        union all
        select counted.number
          from unnest($6::text[]) as known (anonymous_id)
         cross join lateral (
                select count(*) as number
                  from read.tracking_events_read_model
                 where partner_system_id::text = $1::uuid::text
                   and read.text_key(partner_system_id, anonymous_id) = read.text_key($1, known.anonymous_id)
                   and anonymous_id = known.anonymous_id
                   and user_id is null
                   and event_timestamp >= $2
                   and event_timestamp <= $3
                   and ($4::text is null
                        or read.text_key(partner_system_id, event_name) = read.text_key($1, $4)
                           and event_name = $4)
                   and ($7::boolean is null or is_valid = $7)
                   and ($8::text is null
                        or read.text_key(partner_system_id, correlation_id) = read.text_key($1, $8)
                           and correlation_id = $8)
                   and ($9::text is null or coalesce(event_type, 'track') = $9)
                   and ($10::boolean is null or is_bot = $10)
               ) as counted
       ) as part
"""


async def count_actor_events(
    pool: Pool, system_id: UUID, actor: Actor, within: TimeRange, filters: EventFilters
) -> int:
    """How many events of the actor there are on all pages."""
    with translate_errors():
        found: int = await pool.fetchval(_COUNT, system_id, within.start, within.end, *_bind(actor, filters))
    return found


def _bind(actor: Actor, filters: EventFilters) -> tuple[object, ...]:
    return (
        filters.event_name,
        actor.user_ids,
        actor.anonymous_ids,
        filters.is_valid,
        filters.correlation_id,
        filters.event_type,
        filters.is_bot,
    )


_COUNT_ACTORS = """
select count(*)
  from (
        select user_id, case when user_id is null then anonymous_id end
          from read.tracking_events_read_model
         where partner_system_id = $1
           and event_timestamp >= $2
           and event_timestamp <= $3
           and ($4 or not is_bot)
           and (user_id is not null or anonymous_id is not null)
         group by 1, 2
       ) as actors
"""

_COUNT_MERGED_ACTORS = """
with seen as materialized (
    select user_id, case when user_id is null then anonymous_id end as anonymous_id
      from read.tracking_events_read_model
     where partner_system_id = $1
       and event_timestamp >= $2
       and event_timestamp <= $3
       and ($4 or not is_bot)
       and (user_id is not null or anonymous_id is not null)
     group by 1, 2
)
select count(*)
  from (
        select coalesce(final.final_user_id, seen.user_id, became.user_id),
               case when became.user_id is null then seen.anonymous_id end
          from seen
          left join read.identities as became
            on became.partner_system_id = $1
           and became.kind = 'anonymous'
           and became.id = seen.anonymous_id
          left join read.final_users($1) as final on final.id = coalesce(seen.user_id, became.user_id)
         group by 1, 2
       ) as actors
"""

# Without statistics of a new month the planner may take a hundred thousand actors for one, and look each up in a list;
# and a month of events in a system among others is found by a bitmap, which is coarse if it must be small.
_PLAN_FOR_MANY_ROWS = """
set local enable_nestloop = off;
set local work_mem = '32MB'
"""

_SELECT_IDENTITY_VERSION = """
select version
  from read.identity_versions
 where partner_system_id = $1
"""


async def version(connection: Pool | Connection, system_id: UUID, within: TimeRange, *, merged: bool) -> list[int]:
    """Changes with each change to the range's events and, if it matters, with each to the links."""
    with translate_errors():
        links = await connection.fetchval(_SELECT_IDENTITY_VERSION, system_id) if merged else None
    return [await read_range_version(connection, system_id, within), links or 0]


async def count_actors_with_version(
    pool: Pool, system_id: UUID, within: TimeRange, *, includes_bots: bool, merged: bool
) -> tuple[int, list[int]]:
    """How many actors the range's events have, and the version it is of, as they were at one moment."""
    statement = _COUNT_MERGED_ACTORS if merged else _COUNT_ACTORS
    with translate_errors():
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            known = await version(connection, system_id, within, merged=merged)
            await connection.execute(_PLAN_FOR_MANY_ROWS)
            return await connection.fetchval(statement, system_id, within.start, within.end, includes_bots), known
