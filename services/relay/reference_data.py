"""Copies to the read database the data of the write side that query needs: owners of systems, and access tokens."""

import time
from datetime import UTC, datetime, timedelta

from tracking.infra.postgres import Pool

# Changes are read again from this long before, because a transaction commits a little after the time in its rows.
_OVERLAP = timedelta(seconds=60)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)

_SELECT_CHANGED_SYSTEMS = """
select id, partner_id, name, updated_at
  from write.partner_systems
 where updated_at >= $1
 order by updated_at
"""

_UPSERT_SYSTEMS = """
insert into read.partner_systems as known (id, partner_id, name, updated_at)
values ($1, $2, $3, $4)
    on conflict (id)
    do update set name = excluded.name, updated_at = excluded.updated_at
 where known.updated_at < excluded.updated_at
"""

# A token of a deactivated partner is replicated as a revoked one, until the partner is active again.
_SELECT_CHANGED_TOKENS = """
select t.token_sha256,
       t.id,
       t.scope,
       t.partner_id,
       t.expires_at,
       coalesce(t.revoked_at, p.deactivated_at) as revoked_at,
       greatest(t.updated_at, p.updated_at) as updated_at
  from write.access_tokens t
  left join write.partners p on p.id = t.partner_id
 where greatest(t.updated_at, p.updated_at) >= $1
 order by updated_at
"""

_UPSERT_TOKENS = """
insert into read.access_tokens as known (token_sha256, id, scope, partner_id, expires_at, revoked_at, updated_at)
values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (token_sha256)
    do update set expires_at = excluded.expires_at,
                  revoked_at = excluded.revoked_at,
                  updated_at = excluded.updated_at
 where known.updated_at < excluded.updated_at
"""


class ReferenceDataReplicator:
    """Copies changed rows, and every `all_every_s` all rows, in case the read database was lost or restored."""

    def __init__(self, write: Pool, read: Pool, *, all_every_s: float = 300) -> None:
        self._write = write
        self._read = read
        self._all_every_s = all_every_s
        self._all_due = 0.0
        self._since = _BEGINNING

    async def replicate(self) -> None:
        """Bring the read database up to date. Raises postgres.TRANSIENT_ERRORS."""
        began = datetime.now(UTC)
        is_due = time.monotonic() >= self._all_due
        since = _BEGINNING if is_due else self._since
        systems = await self._write.fetch(_SELECT_CHANGED_SYSTEMS, since)
        tokens = await self._write.fetch(_SELECT_CHANGED_TOKENS, since)
        async with self._read.acquire() as connection, connection.transaction():
            await connection.executemany(_UPSERT_SYSTEMS, [tuple(row.values()) for row in systems])
            await connection.executemany(_UPSERT_TOKENS, [tuple(row.values()) for row in tokens])
        self._since = began - _OVERLAP
        if is_due:
            self._all_due = time.monotonic() + self._all_every_s
