"""Writes rejected events of authenticated senders to `write.refused_events`, so that a person can see what was sent.

Rows are queued in memory and written once a second, outside the request path. This is best effort: rows beyond the
queue's limits, or lost while the database is unavailable, are counted and dropped.
"""

import asyncio
import logging
from collections import Counter
from uuid import UUID

from tracking.infra import metrics, postgres
from tracking.infra.postgres import Pool
from tracking.tables.rejected_events import (
    RejectedEventRow,
    delete_rejected_events_beyond,
    insert_rejected_events,
)

_log = logging.getLogger(__name__)
MAX_EVENTS_PER_SYSTEM = 1_000
_FLUSH_INTERVAL_S = 1.0
# Limits for each second. The limit of one sender leaves capacity for the others.
_MAX_WAITING_EVENTS_PER_FLUSH = 500
_MAX_WAITING_EVENTS_PER_SYSTEM = 100
_MAX_WAITING_BYTES = 8 * 1024 * 1024


class RejectedEventWriter:
    """`try_reserve`, then `enqueue` a row; `run` writes the queued rows each second, `flush` does so once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: list[RejectedEventRow] = []
        # Capacity stays reserved until the next flush, whether or not a row follows.
        self._reserved_by_system: Counter[UUID] = Counter()
        self._reserved_bytes = 0

    def try_reserve(self, partner_system_id: UUID, size_bytes: int) -> bool:
        """Reserve capacity for one row with `size_bytes` of raw text; False, and counted as dropped, if there is none.

        Call this before making the row, so that a row that is dropped costs nothing.
        """
        if (
            len(self._waiting) >= _MAX_WAITING_EVENTS_PER_FLUSH
            or self._reserved_by_system[partner_system_id] >= _MAX_WAITING_EVENTS_PER_SYSTEM
            or self._reserved_bytes + size_bytes > _MAX_WAITING_BYTES
        ):
            metrics.rejected_events_dropped.inc()
            return False
        self._reserved_by_system[partner_system_id] += 1
        self._reserved_bytes += size_bytes
        return True

    def enqueue(self, row: RejectedEventRow) -> None:
        """Queue the row for the next flush."""
        self._waiting.append(row)

    async def run(self) -> None:
        """Write the queued rows each second, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Write the queued rows; those that the database does not accept now are dropped."""
        rows, self._waiting, self._reserved_bytes = self._waiting, [], 0
        self._reserved_by_system.clear()
        if not rows:
            return
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await insert_rejected_events(connection, rows)
                for partner_system_id in sorted({row.partner_system_id for row in rows}):
                    await delete_rejected_events_beyond(connection, partner_system_id, MAX_EVENTS_PER_SYSTEM)
        except postgres.POSTGRES_ERRORS as error:
            metrics.rejected_events_dropped.inc(len(rows))
            _log.warning("%d rejected events could not be recorded: %s", len(rows), postgres.describe_error(error))
