"""SQL of `write.partners`."""

from typing import Any
from uuid import UUID

import asyncpg

from tracking.domain.errors import Conflict, NotFound
from tracking.domain.partner import Partner
from tracking.infra.postgres import Connection

_INSERT_PARTNER = """
insert into write.partners (id, name, email, is_active, deactivated_at, created_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7)
"""


async def insert_partner(connection: Connection, partner: Partner) -> None:
    """Insert a partner. Raises Conflict if the address belongs to another partner."""
    try:
        await connection.execute(
            _INSERT_PARTNER,
            partner.id,
            partner.name,
            partner.email,
            partner.is_active,
            partner.deactivated_at,
            partner.created_at,
            partner.updated_at,
        )
    except asyncpg.UniqueViolationError as error:
        raise _make_email_conflict(partner) from error


_UPDATE_PARTNER = """
update write.partners
   set name = $2, email = $3, is_active = $4, deactivated_at = $5, updated_at = $6
 where id = $1
"""


async def update_partner(connection: Connection, partner: Partner) -> None:
    """Update a partner. Raises Conflict if the address belongs to another partner."""
    try:
        await connection.execute(
            _UPDATE_PARTNER,
            partner.id,
            partner.name,
            partner.email,
            partner.is_active,
            partner.deactivated_at,
            partner.updated_at,
        )
    except asyncpg.UniqueViolationError as error:
        raise _make_email_conflict(partner) from error


def _make_email_conflict(partner: Partner) -> Conflict:
    return Conflict("email_taken", f"Another partner has the address {partner.email}.")


_SELECT_PARTNER = """
select id, name, email, deactivated_at, created_at, updated_at
  from write.partners
 where id = $1
"""
_LOCK_PARTNER = _SELECT_PARTNER + " for update"


async def find_partner(connection: Connection, partner_id: UUID, *, should_lock: bool = False) -> Partner:
    """Find a partner. Raises NotFound.

    A command that changes it locks its row, so that such commands run one after the other.
    """
    row = await connection.fetchrow(_LOCK_PARTNER if should_lock else _SELECT_PARTNER, partner_id)
    if row is None:
        raise NotFound("partner_not_found", f"There is no partner {partner_id}.")
    return Partner.restore(**dict(row))


_SELECT_PARTNERS = """
select id, name, email, is_active, deactivated_at, created_at, updated_at
  from write.partners
 where ($1::boolean is null or is_active = $1)
   and ($2::text is null or lower(email) = lower($2))
 order by created_at, id
 limit $3 offset $4
"""

_COUNT_PARTNERS = """
select count(*)
  from write.partners
 where ($1::boolean is null or is_active = $1)
   and ($2::text is null or lower(email) = lower($2))
"""


async def list_partners(
    connection: Connection, is_active: bool | None, email: str | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """Return a page of partners, oldest first, and the number of all."""
    rows = await connection.fetch(_SELECT_PARTNERS, is_active, email, limit, offset)
    return [dict(row) for row in rows], int(await connection.fetchval(_COUNT_PARTNERS, is_active, email))
