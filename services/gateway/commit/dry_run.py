"""A dry run: what would become of events, without storing them."""

from collections.abc import Sequence
from uuid import UUID

from services.gateway.commit.micro_batch import CommitResult
from tracking.domain.errors import Unavailable
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import postgres
from tracking.infra.postgres import Pool

_SELECT_STORED = """
select id
  from write.tracking_events
 where partner_system_id = $1
   and id = any($2::uuid[])
"""


class DryRunCommit:
    """Answers as `GroupCommit.submit` would, but for what only PostgreSQL's own checks could find."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def submit(self, events: Sequence[TrackingEvent]) -> CommitResult:
        """Which of the events, all of one system, are stored already or come twice here. Raises Unavailable."""
        outcome = CommitResult()
        named = [event.id for event in events if event.message_id is not None]
        if not named:
            return outcome
        try:
            rows = await self._pool.fetch(_SELECT_STORED, events[0].partner_system_id, named)
        except postgres.POSTGRES_ERRORS as error:
            raise Unavailable("database_unavailable", "The database does not answer now; try again.", 2) from error
        seen: set[UUID] = {row["id"] for row in rows}
        for position, event in enumerate(events):
            if event.id in seen:
                outcome.add_duplicate(position)
            seen.add(event.id)
        return outcome
