"""The refused inbox in the write database; the gateway keeps it within bounds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from tracking.domain.errors import NotFound
from tracking.infra.postgres import Connection

# of a listed one; the whole is a request of its own
_MAX_RAW_START_BYTES = 2_048


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """`raw` is text (what is no UTF-8 shows as U+FFFD), of a listed one its beginning; None where it is not kept."""

    id: UUID
    partner_system_id: UUID
    system_name: str | None
    partner_id: UUID | None
    refused_at: datetime
    route: str
    position: int | None
    reason: str
    message: str
    details: list[dict[str, Any]]
    raw: str | None
    raw_bytes: int
    correlation_id: str


_SELECT_COLUMNS = """
select r.id,
       r.partner_system_id,
       s.name as system_name,
       s.partner_id,
       r.refused_at,
       r.route,
       r.position,
       r.reason,
       r.message,
       r.faults as details,
       r.raw_bytes,
       r.correlation_id
"""

_LIST = (
    _SELECT_COLUMNS
    + """
     , substr(r.raw, 1, $5) as raw
  from write.refused_events r
  left join write.partner_systems s on s.id = r.partner_system_id
 where ($1::uuid is null or r.partner_system_id = $1)
   and ($2::text is null or r.reason = $2)
 order by r.id desc
 limit $3
offset $4
"""
)

_COUNT_REJECTED_EVENTS = """
select count(*)
  from write.refused_events r
 where ($1::uuid is null or r.partner_system_id = $1)
   and ($2::text is null or r.reason = $2)
"""


async def list_rejected_events(
    connection: Connection, partner_system_id: UUID | None, reason: str | None, limit: int, offset: int
) -> tuple[list[RejectedEvent], int]:
    """A page, the newest first, and how many there are in all; None takes any."""
    rows = await connection.fetch(_LIST, partner_system_id, reason, limit, offset, _MAX_RAW_START_BYTES)
    total = await connection.fetchval(_COUNT_REJECTED_EVENTS, partner_system_id, reason)
    return [_refused(row) for row in rows], int(total)


_FIND = (
    _SELECT_COLUMNS
    + """
     , r.raw
  from write.refused_events r
  left join write.partner_systems s on s.id = r.partner_system_id
 where r.id = $1
"""
)


async def find_rejected_event(connection: Connection, refused_id: UUID) -> RejectedEvent:
    """Raises NotFound."""
    row = await connection.fetchrow(_FIND, refused_id)
    if row is None:
        raise NotFound("refused_not_found", f"No refused event {refused_id} is kept.")
    return _refused(row)


def _refused(row: Any) -> RejectedEvent:
    raw = row["raw"]
    text = None if raw is None else raw.decode(errors="replace")
    return RejectedEvent(**{**row, "details": orjson.loads(row["details"]), "raw": text})
