"""Proves that every committed batch reached every consumer's inbox, says how far each is, and repeats what was lost.

A position per consumer only moves over batches that are in its inbox and old enough that none can still be committed
before them (ids are made before the commit). What is published, missing and not in the queue any more was lost after
its confirm (queue purged or deleted, an operator's mistake): it is published again, to that queue alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.relay import batches
from services.relay.batches import ClaimCheck
from tracking.contracts import topology
from tracking.domain.errors import Unavailable
from tracking.domain.tracking_event import first_id_of
from tracking.infra import metrics
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher

_PAGE = 5_000
_MOST_PAGES = 10
_MOST_REPEATS = 100
# Longer than the gateway's commit deadline: an older id cannot be committed any more.
_SETTLED_AFTER = timedelta(seconds=30)
_REPEAT_AGAIN_AFTER = timedelta(seconds=30)

_POSITION = """
select applied_through
  from write.consumer_positions
 where consumer = $1
"""

_BATCHES_AFTER = """
select id, created_at, published_at is not null as is_published
  from write.event_batches
 where id > $1
 order by id
 limit $2
"""

_APPLIED_BETWEEN = """
select batch_id
  from read.applied_batches
 where batch_id > $1
   and batch_id <= $2
   and consumer = $3
"""

_MOVE_POSITION = """
insert into write.consumer_positions (consumer, applied_through, updated_at)
values ($1, $2, now())
    on conflict (consumer)
    do update set applied_through = excluded.applied_through, updated_at = excluded.updated_at
"""

_TELL_PROGRESS = """
insert into read.consumer_progress (consumer, applied_through, pending_batches, observed_at)
values ($1, $2, $3, now())
    on conflict (consumer)
    do update set applied_through = excluded.applied_through,
                  pending_batches = excluded.pending_batches,
                  observed_at = excluded.observed_at
"""

_CLAIMS = """
select id, created_at, partner_system_ids, event_ids
  from write.event_batches
 where id = any($1::uuid[])
 order by id
"""


@dataclass(frozen=True, slots=True)
class _Missing:
    id: UUID
    created_at: datetime
    is_published: bool


@dataclass(slots=True)
class Reconciler:
    """Follows one consumer."""

    consumer: str
    write: Pool
    read: Pool
    publisher: Publisher
    unapplied_after: timedelta
    _repeated: dict[UUID, datetime] = field(default_factory=dict)

    async def check(self) -> None:
        """Look once: move the position, tell the progress, repeat what was lost. Raises postgres.TRANSIENT."""
        looked_at = datetime.now(UTC)
        missing = await self._find_missing(looked_at)
        oldest = missing[0].created_at if missing else looked_at
        await self.read.execute(_TELL_PROGRESS, self.consumer, oldest, len(missing))
        metrics.batches_unapplied.labels(self.consumer).set(len(missing))
        metrics.oldest_unapplied_seconds.labels(self.consumer).set((looked_at - oldest).total_seconds())
        await self._repeat(missing, looked_at)

    async def _find_missing(self, looked_at: datetime) -> list[_Missing]:
        position = await self.write.fetchval(_POSITION, self.consumer) or UUID(int=0)
        settled = first_id_of(looked_at - _SETTLED_AFTER)
        proven = after = position
        missing: list[_Missing] = []
        for _ in range(_MOST_PAGES):
            rows = await self.write.fetch(_BATCHES_AFTER, after, _PAGE)
            if not rows:
                break
            applied = {
                row["batch_id"] for row in await self.read.fetch(_APPLIED_BETWEEN, after, rows[-1]["id"], self.consumer)
            }
            for row in rows:
                if row["id"] not in applied:
                    missing.append(_Missing(row["id"], row["created_at"], row["is_published"]))
                elif not missing and row["id"] < settled:
                    proven = row["id"]
            after = rows[-1]["id"]
            if len(rows) < _PAGE:
                break
        if proven != position:
            await self.write.execute(_MOVE_POSITION, self.consumer, proven)
        return missing

    async def _repeat(self, missing: Sequence[_Missing], looked_at: datetime) -> None:
        known = {batch.id for batch in missing}
        self._repeated = {id_: at for id_, at in self._repeated.items() if id_ in known}
        lost = [
            batch.id
            for batch in missing
            if batch.is_published
            and looked_at - batch.created_at > self.unapplied_after
            and looked_at - self._repeated.get(batch.id, datetime.min.replace(tzinfo=UTC)) > _REPEAT_AGAIN_AFTER
        ][:_MOST_REPEATS]
        queue = topology.queue_names(self.consumer).work
        if not lost or not await self._is_drained(queue):
            return
        async with self.write.acquire() as connection, connection.transaction():
            if not await batches.is_leading(connection):
                return
            for row in await connection.fetch(_CLAIMS, lost):
                claim = ClaimCheck(**dict(row))
                body = await batches.read_message(connection, claim)
                if not await batches.publish(self.publisher, body, claim.id, reason="unapplied", only_to=queue):
                    return
                self._repeated[claim.id] = looked_at

    async def _is_drained(self, queue: str) -> bool:
        """While messages wait in the queue, what is missing is most likely among them."""
        try:
            return await self.publisher.depth(queue) == 0
        except Unavailable:
            return False
