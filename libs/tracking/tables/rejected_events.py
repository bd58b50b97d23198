"""SQL of `write.refused_events`: inserted by the gateway, read by admin, deleted beyond a share or an age."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from tracking.domain.errors import NotFound
from tracking.infra.postgres import Connection, Pool

# of a listed one; the whole is a request of its own
_MAX_RAW_START_BYTES = 2_048


class RejectedEventRow(NamedTuple):
    """A row as it is inserted, in the order of its columns.

    `position` is None for a request that was rejected as a whole. `raw` may be cut or None, `raw_bytes` is the size of
    what was sent.
    """

    id: UUID
    partner_system_id: UUID
    refused_at: datetime
    route: str
    position: int | None
    reason: str
    message: str
    faults: bytes
    raw: bytes | None
    raw_bytes: int
    correlation_id: str


_INSERT_REJECTED_EVENT = """
insert into write.refused_events
       (id, partner_system_id, refused_at, route, position, reason, message, faults, raw, raw_bytes, correlation_id)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


async def insert_rejected_events(connection: Connection, rows: Collection[RejectedEventRow]) -> None:
    """Insert the rows. Raises the errors of `executemany`."""
    await connection.executemany(_INSERT_REJECTED_EVENT, rows)


_DELETE_BEYOND_NEWEST = """
delete from write.refused_events
 where partner_system_id = $1
   and id <= (select id
                from write.refused_events
               where partner_system_id = $1
               order by id desc
              offset $2
               limit 1)
"""


async def delete_rejected_events_beyond(connection: Connection, partner_system_id: UUID, newest: int) -> None:
    """Delete all of a system's rows but the `newest` ones, by their ids, which begin with the time."""
    await connection.execute(_DELETE_BEYOND_NEWEST, partner_system_id, newest)


_DELETE_OLDER_THAN = "delete from write.refused_events where refused_at < now() - $1::interval"


async def delete_rejected_events_older_than(connection: Pool | Connection, age: timedelta) -> None:
    """Delete the rows of every system that are older than `age`."""
    await connection.execute(_DELETE_OLDER_THAN, age)


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """A rejected event as it is shown to a person.

    `raw` is text (bytes that are not UTF-8 become U+FFFD), only its beginning in a list, and None if it was not kept.
    """

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

_SELECT_PAGE = (
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
    """Return a page, the newest first, and the number of all. A filter that is None matches everything."""
    rows = await connection.fetch(_SELECT_PAGE, partner_system_id, reason, limit, offset, _MAX_RAW_START_BYTES)
    total = await connection.fetchval(_COUNT_REJECTED_EVENTS, partner_system_id, reason)
    return [_to_rejected_event(row) for row in rows], int(total)


_SELECT_REJECTED_EVENT = (
    _SELECT_COLUMNS
    + """
     , r.raw
  from write.refused_events r
  left join write.partner_systems s on s.id = r.partner_system_id
 where r.id = $1
"""
)


async def find_rejected_event(connection: Connection, rejected_id: UUID) -> RejectedEvent:
    """Return one rejected event. Raises NotFound."""
    row = await connection.fetchrow(_SELECT_REJECTED_EVENT, rejected_id)
    if row is None:
        raise NotFound("refused_not_found", f"No refused event {rejected_id} is kept.")
    return _to_rejected_event(row)


def _to_rejected_event(row: Any) -> RejectedEvent:
    raw = row["raw"]
    text = None if raw is None else raw.decode(errors="replace")
    return RejectedEvent(**{**row, "details": orjson.loads(row["details"]), "raw": text})
