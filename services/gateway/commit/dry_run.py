"""Dry runs: returns the result that a commit would have, without storing anything."""

from collections.abc import Sequence
from uuid import UUID

from services.gateway.commit.micro_batch import CommitResult
from tracking.contracts.events_tracked import HasSystemContext
from tracking.domain.errors import Unavailable
from tracking.domain.idempotency_key import IdempotencyKey
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import postgres
from tracking.infra.postgres import Pool
from tracking.tables import idempotency_keys

_SELECT_STORED = """
select id
  from write.tracking_events
 where partner_system_id = $1
   and id = any($2::uuid[])
"""


class DryRunCommit:
    """Takes the place of `GroupCommit` for a request that is a dry run."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def submit(
        self, events: Sequence[TrackingEvent], system: HasSystemContext, key: IdempotencyKey | None = None
    ) -> CommitResult:
        """Return the result that `GroupCommit.submit` would return, without storing anything.

        Events that only a constraint or trigger of PostgreSQL would reject are reported as accepted.
        Raises Unprocessable, Unavailable.
        """
        result = CommitResult()
        named = [event.id for event in events if event.message_id is not None]
        if not named:
            return result
        try:
            rows = await self._pool.fetch(_SELECT_STORED, system.partner_system_id, named)
            if key is not None and await idempotency_keys.list_keys_of_other_bodies(self._pool, [key]):
                result.add_conflict()
        except postgres.POSTGRES_ERRORS as error:
            raise Unavailable("database_unavailable", "The database does not answer now; try again.", 2) from error
        if result.failure is not None:
            raise result.failure
        seen: set[UUID] = {row["id"] for row in rows}
        for position, event in enumerate(events):
            if event.id in seen:
                result.add_duplicate(position)
            seen.add(event.id)
        return result
