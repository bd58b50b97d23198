"""Writes identity links to `read.identities`, for the two that apply events: the projector and a rebuild."""

from collections.abc import Collection

from tracking.domain.identity_link import IdentityLink
from tracking.infra.postgres import Connection

# Earlier links that exist are looked up, not locked, as SDKs send the same link with each page. In key order, so that
# workers side by side lock rows in the same order and never each other. A version begins at the clock, so that none
# that a cache may hold from a read database before this one comes back.
_UPSERT_EARLIER_LINKS = """
with linked as (
    insert into read.identities as known (partner_system_id, kind, id, user_id, linked_at, event_id)
    select given.*
      from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::uuid[])
           as given (partner_system_id, kind, id, user_id, linked_at, event_id)
      left join read.identities as earlier
        on earlier.partner_system_id = given.partner_system_id
       and earlier.kind = given.kind
       and earlier.id = given.id
       and (earlier.linked_at, earlier.event_id) <= (given.linked_at, given.event_id)
     where earlier.id is null
     order by given.partner_system_id, given.kind, given.id
        on conflict (partner_system_id, kind, id)
        do update set user_id = excluded.user_id, linked_at = excluded.linked_at, event_id = excluded.event_id
         where (excluded.linked_at, excluded.event_id) < (known.linked_at, known.event_id)
    returning partner_system_id
), raised as (
    insert into read.identity_versions as known (partner_system_id, version)
    select partner_system_id, (extract(epoch from clock_timestamp()) * 1000)::bigint
      from linked
     group by partner_system_id
     order by partner_system_id
        on conflict (partner_system_id)
        do update set version = greatest(known.version + 1, excluded.version)
)
select count(*) from linked
"""


async def insert_earlier_links(connection: Connection, links: Collection[IdentityLink]) -> int:
    """Write the links that are earlier than the stored ones, inside a transaction. Return how many were.

    At most one link of each id may be given.
    """
    return await _change(connection, _UPSERT_EARLIER_LINKS, links)


_DELETE_LINKS = """
with unlinked as (
    delete from read.identities as known
     using unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::uuid[])
           as given (partner_system_id, kind, id, user_id, linked_at, event_id)
     where known.partner_system_id = given.partner_system_id
       and known.kind = given.kind
       and known.id = given.id
       and known.user_id = given.user_id
       and known.linked_at = given.linked_at
       and known.event_id = given.event_id
    returning known.partner_system_id
), raised as (
    insert into read.identity_versions as known (partner_system_id, version)
    select partner_system_id, (extract(epoch from clock_timestamp()) * 1000)::bigint
      from unlinked
     group by partner_system_id
     order by partner_system_id
        on conflict (partner_system_id)
        do update set version = greatest(known.version + 1, excluded.version)
)
select count(*) from unlinked
"""


async def delete_links(connection: Connection, links: Collection[IdentityLink]) -> int:
    """Delete the links that are stored exactly as given, inside a transaction. Return how many were."""
    return await _change(connection, _DELETE_LINKS, links)


async def _change(connection: Connection, statement: str, links: Collection[IdentityLink]) -> int:
    if not links:
        return 0
    changed: int = await connection.fetchval(statement, *(list(column) for column in zip(*links, strict=True)))
    return changed
