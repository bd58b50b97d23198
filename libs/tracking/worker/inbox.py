"""The transaction of a worker, which applies each batch once in effect, however often its message is delivered.

It inserts the ids of the batches into `read.applied_batches` (the inbox), applies those that were not there, and
commits; only then are the messages acknowledged. A crash before the commit leaves nothing, and after a crash behind it
the message comes again and its batch is found in the inbox. Of a batch that comes in parts, the inbox holds the
positions of the events that were applied (`batch_parts`).
"""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Generic

from tracking.infra import metrics
from tracking.infra.postgres import Connection, Pool
from tracking.tables import applied_batches, range_versions
from tracking.tables.range_versions import SystemDay
from tracking.worker.batch_parts import B, take_rest

Apply = Callable[[Connection, Sequence[B]], Awaitable[Collection[SystemDay]]]


class Inbox(Generic[B]):
    """The inbox of `consumer`; `apply(connection, batches)` writes the effect and returns the days that it changed.

    `apply` runs inside the transaction, is given only batches that are new, and must not commit. It may be called again
    with the same batches after a failure. `(system, UTC day)` it returns are raised in `read.range_versions`.
    """

    def __init__(self, consumer: str, pool: Pool, apply: Apply[B]) -> None:
        self._consumer = consumer
        self._pool = pool
        self._apply = apply

    async def apply(self, batches: Sequence[B]) -> None:
        """Apply those of the batches that are new, all or none. Raises the errors of PostgreSQL and of `apply`."""
        started = time.perf_counter()
        by_id = {batch.batch_id: batch for batch in batches if batch.part is None}
        async with self._pool.acquire() as connection, connection.transaction():
            new_ids = await applied_batches.insert_batches(connection, self._consumer, list(by_id))
            fresh = [by_id[batch_id] for batch_id in new_ids]
            if len(fresh) < len(batches):  # some are redelivered, or parts
                fresh += await take_rest(connection, self._consumer, batches, new_ids)
            if fresh:
                days = await self._apply(connection, fresh)
                # last, as these rows are shared by all workers: they stay locked only until the commit
                await range_versions.raise_versions(connection, days, self._consumer)
        metrics.batches_redelivered.labels(self._consumer).inc(len(batches) - len(fresh))
        metrics.events_applied.labels(self._consumer).inc(sum(batch.event_count for batch in fresh))
        metrics.apply_seconds.labels(self._consumer).observe(time.perf_counter() - started)
