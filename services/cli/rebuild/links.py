"""Checks links between ids (`read.identities`) against the events that they come from.

A rebuild of everything first deletes links that their own event does not justify. The earliest link wins, so one with a
wrong, early time would keep out every correct one. Only afterwards the last batch of the rebuild is fixed. A batch
whose link was kept out by a deleted one is therefore still to be rebuilt, or reaches the projector later, which can
then write the link.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from tracking.domain.identity_link import IdentityLink, find_linked_ids, get_link_time
from tracking.infra.postgres import Connection

_PAGE_LINKS = 5_000
# The position at which a page begins: system, kind, id.
LinkPosition = tuple[UUID, str, str]
FIRST_POSITION: LinkPosition = (UUID(int=0), "", "")


class LinkingEvent(NamedTuple):
    """The columns of `write.tracking_events` from which links between ids follow."""

    partner_system_id: UUID
    id: UUID
    event_timestamp: datetime
    received_at: datetime
    event_type: str | None
    user_id: str | None
    anonymous_id: str | None
    event_properties: bytes

    def links(self) -> list[IdentityLink]:
        """The links that the event justifies."""
        user_id = str(self.user_id)
        linked_at = get_link_time(self.partner_system_id, self.event_timestamp, self.received_at)
        found = find_linked_ids(self.event_type, self.user_id, self.anonymous_id, self.event_properties)
        return [IdentityLink(self.partner_system_id, kind, id_, user_id, linked_at, self.id) for kind, id_ in found]


_SELECT_LINKS = """
select partner_system_id, kind, id, user_id, linked_at, event_id
  from read.identities
 where (partner_system_id, kind, id) > ($1, $2, $3)
 order by partner_system_id, kind, id
 limit $4
"""


async def list_links(read: Connection, after: LinkPosition) -> list[IdentityLink]:
    """Return the next links after a position."""
    return [IdentityLink(*row) for row in await read.fetch(_SELECT_LINKS, *after, _PAGE_LINKS)]


_SELECT_LINKING_EVENTS = """
select e.partner_system_id,
       e.id,
       e.event_timestamp,
       e.received_at,
       e.event_type,
       e.user_id,
       e.anonymous_id,
       case when e.event_type = 'alias' then e.event_properties else '{}' end as event_properties
  from unnest($1::uuid[], $2::uuid[]) as given (partner_system_id, id)
  join write.tracking_events e
    on e.partner_system_id = given.partner_system_id
   and e.id = given.id
"""


async def find_unjustified_links(
    write: Connection, links: Sequence[IdentityLink], kept_since: datetime | None, *, deletes_strays: bool
) -> list[IdentityLink]:
    """Return the links that their event does not justify.

    If `deletes_strays`, links whose event is not in the write database are included, unless retention has dropped
    events of that time. The write database is read after
    the read database. Every link was made from an event that was committed before, so a missing event is an error.
    """
    named = {(link.partner_system_id, link.event_id) for link in links}
    rows = await write.fetch(_SELECT_LINKING_EVENTS, [system for system, _ in named], [event for _, event in named])
    events = [LinkingEvent(*row) for row in rows]
    justified = {link for event in events for link in event.links()}
    stored = {(event.partner_system_id, event.id) for event in events}
    return [
        link
        for link in links
        if link not in justified
        and (
            (link.partner_system_id, link.event_id) in stored
            or (deletes_strays and (kept_since is None or link.linked_at >= kept_since))
        )
    ]
