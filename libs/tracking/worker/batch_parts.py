"""Batches that arrive in parts, and whole ones after a part of them: takes the events that were not applied yet.

The row of the batch in the inbox holds the positions of its applied events and is locked until the commit. Each event
is therefore applied once, in whichever parts, how often and to how many workers its batch is sent.
"""

from collections.abc import Collection, Sequence
from typing import Protocol, Self, TypeVar
from uuid import UUID

from tracking.contracts.events_tracked import BatchPart
from tracking.infra.postgres import Connection
from tracking.tables import applied_batches


class Batch(Protocol):
    """The part of a decoded message that the inbox uses."""

    @property
    def batch_id(self) -> UUID:
        """The id in the inbox by which the batch is applied once only."""

    @property
    def event_count(self) -> int:
        """How many events the message has."""

    @property
    def part(self) -> BatchPart | None:
        """Which part of its batch the message contains; None if it is the whole batch."""

    def select(self, indexes: Sequence[int]) -> Self:
        """Return the same message with only the events at these indexes."""


B = TypeVar("B", bound=Batch)


async def take_rest(
    connection: Connection, consumer: str, batches: Sequence[B], taken_ids: Collection[UUID]
) -> list[B]:
    """Return what is new in the batches that are not in `taken_ids`, and record it as applied, inside a transaction."""
    rest = [batch for batch in batches if batch.part is not None or batch.batch_id not in taken_ids]
    wholes = {batch.batch_id: batch for batch in rest if batch.part is None}
    partial = await applied_batches.lock_partial(connection, consumer, list(wholes)) if wholes else {}
    fresh: list[B] = []
    for batch_id, positions in partial.items():
        whole = wholes[batch_id]
        count = whole.event_count
        fresh += await _take(connection, consumer, whole, BatchPart(0, count, count, range(count)), positions)
    # in the order of their ids, so that two workers do not wait for each other
    for batch in sorted(rest, key=lambda batch: batch.batch_id):
        # a part of a batch that was taken as a whole finds that here, too
        if batch.part is not None:
            known = await applied_batches.lock_or_insert_partial(connection, consumer, batch.batch_id)
            if known is not None:
                fresh += await _take(connection, consumer, batch, batch.part, known)
    return fresh


async def _take(connection: Connection, consumer: str, batch: B, part: BatchPart, applied: Sequence[range]) -> list[B]:
    await applied_batches.add_positions(connection, consumer, batch.batch_id, part.first, part.past, part.of)
    wanted = [index for index, position in enumerate(part.positions) if not any(position in known for known in applied)]
    if len(wanted) == batch.event_count:
        return [batch]
    return [batch.select(wanted)] if wanted else []
