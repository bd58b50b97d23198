"""Measures how fast one worker of each kind empties its queue."""

from collections.abc import Sequence

from tests.load import measure
from tests.load.environment import BenchEnvironment
from tests.load.report import BenchRow
from tests.support.polling import until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack


class ConsumerThroughput:
    """Projector over raw COPY, statistics over projector."""

    remarks: Sequence[str] = ()

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        self._events = 40_000 if room.is_quick else 120_000
        self.rounds = 1 if room.is_quick else 5
        self._projector = BenchRow("projector drain ÷ raw COPY into the read model", 0.85)
        self._statistics = BenchRow("statistics drain ÷ projector drain", 4.0)

    @property
    def rows(self) -> Sequence[BenchRow]:
        """In the order of the design."""
        return self._projector, self._statistics

    async def round(self) -> None:
        """Fill both queues, then let one worker after the other empty its own."""
        async with self._room.stack() as stack, self._room.stack() as twin:
            sender = await register_system(stack)
            async with run_services(stack, "gateway") as services:
                await self._fill(services, sender, stack)
                number = await measure.count_stored(stack)
                projected, group = await measure.drain(services, stack, "projector", number)
                tallied, _ = await measure.drain(services, stack, "statistics", number)
                await measure.check_read_model(stack, number)
            copied = await measure.raw_copy_of_read_model(stack, twin, group, number)
        self._projector.add(projected, copied)
        self._statistics.add(tallied, projected)
        self._room.say(
            f"projector {projected:8.0f}/s (groups of {group})   raw COPY {copied:8.0f}/s   statistics {tallied:8.0f}/s"
        )

    async def _fill(self, services: ServiceProcesses, sender: Registered, stack: Stack) -> None:
        while await measure.count_stored(stack) < self._events:
            await measure.batches(services, sender, 1)
        write = await stack.write()
        await until(
            lambda: write.fetchval("select count(*) from write.event_batches where published_at is null"),
            lambda unpublished: unpublished == 0,
        )
