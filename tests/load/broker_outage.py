"""Compares the speed of ingest while RabbitMQ is stopped with its speed while RabbitMQ runs."""

from collections.abc import Sequence

from tests.load import measure
from tests.load.environment import BenchEnvironment
from tests.load.report import BenchRow
from tests.support.backing_services import free_port
from tests.support.registry import register_system
from tests.support.service_processes import run_services


class Outage:
    """Two gateways in turn: one that has its broker, one that finds nobody at the broker's address."""

    remarks: Sequence[str] = ()

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        self.rounds = 1 if room.is_quick else 3
        self._ways = (measure.SINGLES, measure.BATCHES)
        self._rows = [BenchRow(f"{way.name}, RabbitMQ stopped ÷ running", 1.0) for way in self._ways]

    @property
    def rows(self) -> Sequence[BenchRow]:
        """In the order of the design."""
        return self._rows

    async def round(self) -> None:
        """Both ways of sending, each with and without."""
        nobody = {"TRACKING_RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{free_port()}/"}
        async with self._room.stack() as stack:
            sender = await register_system(stack)
            async with (
                run_services(stack, "gateway") as connected,
                run_services(stack, "gateway", settings=nobody) as alone,
            ):
                acknowledged = unanswered = 0
                for way, row in zip(self._ways, self._rows, strict=True):
                    for services in (connected, alone):
                        warm_up = await measure.send(way, services, sender, 1)
                        acknowledged += warm_up.requests * way.events
                        unanswered += way.connections * way.events
                    running_ = await measure.send(way, connected, sender, self._room.seconds)
                    stopped = await measure.send(way, alone, sender, self._room.seconds)
                    acknowledged += (running_.requests + stopped.requests) * way.events
                    unanswered += 2 * way.connections * way.events
                    row.add(stopped.per_second * way.events, running_.per_second * way.events)
                    self._room.say(
                        f"{way.name}: stopped {stopped.per_second * way.events:8.0f}/s   "
                        f"running {running_.per_second * way.events:8.0f}/s"
                    )
                stored = await measure.count_stored(stack)
                assert acknowledged <= stored <= acknowledged + unanswered, (
                    f"{acknowledged} acknowledged, {stored} stored"
                )
