"""Verifies for one consumer that every committed batch reached its inbox, and republishes batches that were lost.

The position advances only over batches that are in the inbox or are dead letters and that are older than a commit may
take (`tracking.contracts.commit_deadline`): an id is created before its commit, so an older batch may still appear
behind a younger one. A batch that was
published, is in no inbox, is no dead letter and is not in the queue was lost after its confirm, for example by a purge.
It is published again to this consumer's queue only. A dead letter is left alone until somebody decides to retry it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.relay import leader, messages, unsendable
from tracking.contracts import topology
from tracking.contracts.commit_deadline import COMMIT_HORIZON
from tracking.domain.errors import Unavailable
from tracking.domain.ids import make_lowest_id
from tracking.infra import metrics
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher
from tracking.tables import applied_batches, apply_failures, consumer_progress, event_batches
from tracking.tables.dead_letters import delivery
from tracking.tables.dead_letters.delivery import BatchLetter

_PAGE_SIZE = 5_000
_MAX_PAGES_PER_RUN = 10
_MAX_REPUBLISHED_PER_RUN = 1_000
# the loop has other things to do, and must say in time that it is alive
_REPEAT_FOR_S = 5.0


@dataclass(frozen=True, slots=True)
class _MissingBatch:
    """`sent_at` is when it was sent to the consumer, at the earliest; None if it need not be under way."""

    id: UUID
    created_at: datetime
    sent_at: datetime | None


@dataclass(slots=True)
class Reconciler:
    """Follows one consumer."""

    consumer: str
    write: Pool
    read: Pool
    publisher: Publisher
    unapplied_after: timedelta
    # missing though the queues were seen empty, since when; in the future after a repeat
    _missing_since: dict[UUID, datetime] = field(default_factory=dict)

    async def reconcile(self) -> None:
        """Look once: move the position, tell the progress, repeat what was lost. Raises postgres.TRANSIENT_ERRORS."""
        looked_at = datetime.now(UTC)
        position = await consumer_progress.read_position(self.write, self.consumer)
        found = await delivery.list_batch_letters(self.write, self.consumer, position)
        letters = {letter.batch_id: letter for letter in found}
        missing = await self._find_missing(looked_at, position, letters)
        missing += await self._find_unapplied(letters)
        oldest = min((batch.created_at for batch in missing), default=looked_at)
        count_open = await delivery.count_open(self.write, self.consumer)
        await consumer_progress.save_progress(
            self.read,
            self.consumer,
            applied_through=oldest,
            pending_batches=len(missing),
            open_dead_letters=count_open,
        )
        await apply_failures.delete_old_failures(self.read, self.consumer)
        metrics.batches_unapplied.labels(self.consumer).set(len(missing))
        metrics.oldest_unapplied_seconds.labels(self.consumer).set((looked_at - oldest).total_seconds())
        metrics.open_dead_letters.labels(self.consumer).set(count_open)
        await self._republish_lost(missing, looked_at)

    async def _find_missing(
        self, looked_at: datetime, position: UUID, letters: Mapping[UUID, BatchLetter]
    ) -> list[_MissingBatch]:
        """Batches after the position that are neither in the inbox nor dead letters; moves the position."""
        horizon = make_lowest_id(looked_at - COMMIT_HORIZON)
        proven = after = position
        missing: list[_MissingBatch] = []
        for _ in range(_MAX_PAGES_PER_RUN):
            page = await event_batches.list_states_after(self.write, after, _PAGE_SIZE)
            if not page:
                break
            applied = await applied_batches.list_between(self.read, self.consumer, after, page[-1].id)
            for batch in page:
                if batch.id not in applied and batch.id not in letters:
                    sent_at = batch.created_at if batch.is_published else None
                    missing.append(_MissingBatch(batch.id, batch.created_at, sent_at))
                elif not missing and batch.id < horizon:
                    proven = batch.id
            after = page[-1].id
            if len(page) < _PAGE_SIZE:
                break
        if proven != position:
            await consumer_progress.save_position(self.write, self.consumer, proven)
        return missing

    async def _find_unapplied(self, letters: Mapping[UUID, BatchLetter]) -> list[_MissingBatch]:
        """Dead letters that are open or on their way; those found in the inbox are closed."""
        waiting = [letter for letter in letters.values() if letter.state in ("open", "retried")]
        if not waiting:
            return []
        among = [letter.batch_id for letter in waiting]
        applied = await applied_batches.list_among(self.read, self.consumer, among)
        if applied:
            await delivery.mark_applied(self.write, self.consumer, list(applied))
        return [
            _MissingBatch(letter.batch_id, letter.created_at, letter.sent_at if letter.state == "retried" else None)
            for letter in waiting
            # retention may have dropped the batch, and an id that no batch ever had is no gap
            if letter.batch_id not in applied and letter.created_at is not None
        ]

    async def _republish_lost(self, missing: Sequence[_MissingBatch], looked_at: datetime) -> None:
        grace = self.unapplied_after / 2
        late = {
            batch.id: looked_at - batch.sent_at
            for batch in missing
            if batch.sent_at is not None and looked_at - batch.sent_at > grace
        }
        self._missing_since = {id_: since for id_, since in self._missing_since.items() if id_ in late}
        names = topology.get_queue_names(self.consumer)
        if not late or not await self._are_drained(names.work, names.dead_letter):
            return
        # twice: what is in no queue may be in the hands of a worker, who has some seconds of work there
        lost = [
            id_
            for id_, age in late.items()
            if looked_at - self._missing_since.setdefault(id_, looked_at) >= grace and age > self.unapplied_after
        ][:_MAX_REPUBLISHED_PER_RUN]
        if not lost:
            return
        until = time.monotonic() + _REPEAT_FOR_S
        async with self.write.acquire() as connection, connection.transaction():
            if not await leader.try_lead(connection):
                return
            for batch in await event_batches.list_batches(connection, lost):
                try:
                    failed = await messages.send_batch(
                        connection, self.publisher, batch, reason="unapplied", only_to=names.work
                    )
                except Unavailable as error:
                    if unsendable.concerns_every_message(error):
                        return
                    failed = None
                # also after a failure, so that a batch that the broker does not take delays no others
                self._missing_since[batch.id] = looked_at + 2 * self.unapplied_after
                if failed is not None:
                    await unsendable.save_dead_letters(connection, batch, [self.consumer], failed)
                if time.monotonic() > until:
                    return

    async def _are_drained(self, *queues: str) -> bool:
        """While messages wait in a queue, what is missing is most likely among them."""
        try:
            return not any([await self.publisher.get_queue_depth(queue) for queue in queues])
        except Unavailable:
            return False
