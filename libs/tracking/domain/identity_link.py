"""Identity links: which ids an event connects with its user id.

Only identify and alias events create links; an event that merely carries two ids does not, and neither does a
placeholder such as "undefined". Of several events about one id the earliest counts, so the order in which they arrive
does not matter (docs/decisions/0009).
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from tracking.domain.ids import read_uuid7_time
from tracking.domain.placeholder_ids import is_placeholder_id

IdentityKind = Literal["anonymous", "user"]
# the limit of every userId and anonymousId: a longer text cannot be the id of an actor
MAX_ID_CHARACTERS = 255
LINKING_EVENT_TYPES = frozenset({"identify", "alias"})


class IdentityLink(NamedTuple):
    """The id `id` became `user_id`, by the event `event_id`; `linked_at` is the time at which that event links."""

    partner_system_id: UUID
    kind: IdentityKind
    id: str
    user_id: str
    linked_at: datetime
    event_id: UUID


def find_linked_ids(
    event_type: str | None, user_id: str | None, anonymous_id: str | None, event_properties: str | bytes
) -> Sequence[tuple[IdentityKind, str]]:
    """Return the ids that this event links to its `user_id`; `event_properties` is JSON text.

    An alias event does not say whether its `previousId` was an anonymous id or a user id, so links of both kinds are
    returned. Without a `previousId` it links the anonymous id. Ids are text, so a number in `previousId` is ignored.
    Placeholders are not linked, with nothing.
    """
    if not user_id or event_type not in LINKING_EVENT_TYPES or is_placeholder_id(user_id):
        return ()
    if event_type == "alias":
        previous_id = _read_previous_id(event_properties)
        if previous_id is not None:
            if is_placeholder_id(previous_id):
                return ()
            if previous_id == user_id:
                return (("anonymous", previous_id),)
            return (("anonymous", previous_id), ("user", previous_id))
    return (("anonymous", anonymous_id),) if anonymous_id and not is_placeholder_id(anonymous_id) else ()


def get_link_time(partner_system_id: UUID, event_timestamp: datetime, received_at: datetime) -> datetime:
    """Return the time at which an event links: its own, or that of its receipt if its own is clearly wrong.

    The earliest link wins, so a device whose clock stands at 1970 would win for ever. A time before the partner system
    was registered is clearly wrong; when that was stands in the system's id, a UUIDv7. A time that lies too far ahead
    has been replaced by that of the receipt before.
    """
    registered_at = read_uuid7_time(partner_system_id)
    return received_at if registered_at is not None and event_timestamp < registered_at else event_timestamp


def select_earliest(links: Iterable[IdentityLink]) -> list[IdentityLink]:
    """Return the earliest link of each id; of two at the same time, the one with the smaller event id."""
    believed: dict[tuple[UUID, str, str], IdentityLink] = {}
    for link in links:
        known = believed.setdefault(link[:3], link)
        if (link.linked_at, link.event_id) < (known.linked_at, known.event_id):
            believed[link[:3]] = link
    return list(believed.values())


def _read_previous_id(event_properties: str | bytes) -> str | None:
    # Python refuses integers of more than 4300 digits; the numbers do not matter here
    properties = json.loads(event_properties, parse_int=float)
    value = properties.get("previousId") if isinstance(properties, dict) else None
    return value if isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARACTERS else None
