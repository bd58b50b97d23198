"""The relay's loop: runs each step once a tick; a step that fails does not stop the others."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from services.relay.dead_letters.collect import DeadLetterCollector
from services.relay.dead_letters.retry import DeadLetterRetrier
from services.relay.partitions import PartitionMaintainer
from services.relay.reconcile import Reconciler
from services.relay.reference_data import ReferenceDataReplicator
from services.relay.republish import Republisher, update_unpublished_metrics
from services.relay.retention import RetentionMaintainer, RetentionOptions
from services.relay.upkeep import NotLeading, Upkeep
from tracking.contracts import topology
from tracking.infra import postgres
from tracking.infra.postgres import Pool
from tracking.infra.rabbitmq import Publisher

_log = logging.getLogger(__name__)


class Relay:
    """Runs the steps of the relay until `stop`."""

    def __init__(
        self,
        *,
        write: Pool,
        read: Pool,
        publisher: Publisher,
        rabbitmq_url: str,
        connect_timeout_s: float,
        tick_s: float,
        unpublished_after_s: float,
        unapplied_after_s: float,
        upkeep_interval_s: float,
        retention: RetentionOptions,
    ) -> None:
        self._write = write
        self._read = read
        self._publisher = publisher
        unapplied_after = timedelta(seconds=unapplied_after_s)
        self._steps: dict[str, Callable[[], Awaitable[None]]] = {}
        for consumer in topology.CONSUMERS:
            collector = DeadLetterCollector(consumer, write, read, publisher, rabbitmq_url, connect_timeout_s)
            self._steps[f"collect {consumer}"] = collector.collect
            self._steps[f"retry {consumer}"] = DeadLetterRetrier(consumer, write, read, publisher).retry
            self._steps[f"reconcile {consumer}"] = Reconciler(
                consumer, write, read, publisher, unapplied_after
            ).reconcile
        self._republisher = Republisher(write, publisher, unpublished_after_s)
        self._reference = ReferenceDataReplicator(write, read)
        self._tick_s = tick_s
        self._upkeep_interval_s = upkeep_interval_s
        self._stopping = asyncio.Event()
        self._upkeep = Upkeep(write, read, self._stopping)
        self._partitions = PartitionMaintainer(self._upkeep)
        self._retention = RetentionMaintainer(self._upkeep, retention)
        self._failing: set[str] = set()

    def stop(self) -> None:
        """Stop; `run` returns after the current step."""
        self._stopping.set()

    async def run(self, beat: Callable[[], None]) -> None:
        """Run the steps until `stop`; neither a backlog to publish nor the partitions delay the other steps."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publish(beat))
            tasks.create_task(self._run_steps(beat))
            tasks.create_task(self._maintain_partitions(beat))

    async def _publish(self, beat: Callable[[], None]) -> None:
        has_more = False
        while not self._stopping.is_set():
            beat()
            if not has_more:
                await self._pause(self._tick_s)
            has_more = await self._step("republish", self._republisher.republish) or False

    async def _count(self) -> None:
        await update_unpublished_metrics(self._write)

    async def _run_steps(self, beat: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            beat()
            await self._step("reference", self._reference.replicate)
            await self._step("count", self._count)
            for name, step in self._steps.items():
                beat()
                await self._step(name, step)
            await self._pause(self._tick_s)

    async def _maintain_partitions(self, beat: Callable[[], None]) -> None:
        while not self._stopping.is_set():
            beat()
            self._upkeep.update_metrics()
            is_done = await self._step("partitions", self._maintain)
            await self._pause(self._upkeep_interval_s if is_done else self._tick_s)

    async def _maintain(self) -> bool:
        with contextlib.suppress(NotLeading):
            await self._partitions.maintain()
            await self._retention.expire()
        return True

    async def _step(self, name: str, step: Callable[[], Awaitable[bool | None]]) -> bool | None:
        try:
            result = await step()
        except postgres.TRANSIENT_ERRORS as error:
            if name not in self._failing:
                _log.warning("%s waits: %s", name, postgres.describe_error(error))
            self._failing.add(name)
            return None
        if name in self._failing:
            _log.info("%s works again", name)
            self._failing.discard(name)
        return result

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
