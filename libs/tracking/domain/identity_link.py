"""Which ids an event says became its user.

Only identify and alias say so; an event that merely carries two ids does not. Of several events about one id the
earliest is believed, so the order in which they arrive does not matter (docs/decisions/0009).
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

IdentityKind = Literal["anonymous", "user"]
# as of every userId and anonymousId; what is longer is the id of nobody
MAX_ID_CHARACTERS = 255
LINKING_EVENT_TYPES = frozenset({"identify", "alias"})


class IdentityLink(NamedTuple):
    """`id` became `user_id`; (linked_at, event_id) are those of the event that says so."""

    partner_system_id: UUID
    kind: IdentityKind
    id: str
    user_id: str
    linked_at: datetime
    event_id: UUID


def find_linked_ids(
    event_type: str | None, user_id: str | None, anonymous_id: str | None, event_properties: str | bytes
) -> Sequence[tuple[IdentityKind, str]]:
    """The ids that this event says became its `user_id`; `event_properties` as JSON text.

    An alias does not say whether its `previousId` was an anonymous id or a user's, so it may be either; without one it
    is about the anonymous id. Ids are text: a number in `previousId` is none.
    """
    if not user_id or event_type not in LINKING_EVENT_TYPES:
        return ()
    if event_type == "alias":
        previous_id = _read_previous_id(event_properties)
        if previous_id is not None:
            if previous_id == user_id:
                return (("anonymous", previous_id),)
            return (("anonymous", previous_id), ("user", previous_id))
    return (("anonymous", anonymous_id),) if anonymous_id else ()


def select_earliest(links: Iterable[IdentityLink]) -> list[IdentityLink]:
    """The one to believe of each id; of two at the same time, that of the event with the smaller id."""
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
