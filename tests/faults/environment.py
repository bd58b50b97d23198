"""The environment of a fault: private servers, the six services, the network between gateway and servers, a load."""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit, urlunsplit

from tests.faults.ledger import Ledger
from tests.faults.load_generator import LoadPlan
from tests.faults.request_mix import ORDER_SCHEMA, SenderSystem
from tests.faults.tcp_proxy import TcpProxy, proxied
from tests.support.backing_services import LocalServices
from tests.support.broker_tools import run_rabbitmqctl
from tests.support.registry import publish_structure, register_system
from tests.support.service_processes import ROOT, ServiceProcesses, run_services
from tests.support.stack import Stack

# a gateway whose network to PostgreSQL and RabbitMQ nothing breaks
SPARE_GATEWAY = "gateway-spare"
OTHERS = ("relay", "projector", "statistics", "admin", "query")


@dataclass(slots=True)
class FaultEnvironment:
    """`pace` scales every pause: 1 in the suite, less in the tests. A fault records `broken_at`, `mended_at`."""

    backing: LocalServices
    stack: Stack
    gateways: ServiceProcesses
    others: ServiceProcesses
    networks: dict[str, TcpProxy]
    rng: Random
    pace: float = 1.0
    broken_at: list[float] = field(default_factory=list)
    mended_at: list[float] = field(default_factory=list)
    broken_promises: list[str] = field(default_factory=list)
    """What a fault itself saw that must not be."""

    def services(self, name: str) -> ServiceProcesses:
        """Those among which the process is."""
        return self.gateways if name.startswith("gateway") and name != SPARE_GATEWAY else self.others

    async def pause(self, least_s: float, most_s: float) -> None:
        """At random: a fault is to meet the system at any moment."""
        await asyncio.sleep(self.rng.uniform(least_s, most_s) * self.pace)

    def record_break(self) -> None:
        """Record that a part is about to be broken."""
        self.broken_at.append(time.monotonic())

    def record_repair(self) -> None:
        """Record that the part is whole again or starting. From here on the product has to recover without help."""
        self.mended_at.append(time.monotonic())

    def rabbitmqctl(self, *arguments: str) -> None:
        """Run RabbitMQ's command line tool against the broker of this environment."""
        run_rabbitmqctl(self.backing.rabbitmq, *arguments)


@asynccontextmanager
async def open_environment(
    backing: LocalServices,
    stack: Stack,
    seed: int,
    *,
    pace: float = 1.0,
    gateways: Sequence[str] = ("gateway",),
    is_proxied: bool = False,
    has_spare_gateway: bool = False,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[FaultEnvironment]:
    """Run everything inside. At the end each process must still run, or must have ended because it was stopped."""
    async with AsyncExitStack() as opening:
        networks, gateway_settings, other_settings = {}, dict(settings or {}), dict(settings or {})
        if is_proxied:
            for name, variable, url, changed in (
                ("postgres", "TRACKING_WRITE_DATABASE_URL", stack.write_url("gateway"), gateway_settings),
                ("rabbitmq", "TRACKING_RABBITMQ_URL", stack.rabbitmq_url, gateway_settings),
                ("redis", "TRACKING_REDIS_URL", stack.redis_url, gateway_settings),
                # and of query
                ("redis-of-admin", "TRACKING_REDIS_URL", stack.redis_url, other_settings),
            ):
                networks[name] = await opening.enter_async_context(proxied(urlsplit(url).port or 0))
                changed[variable] = _through(url, networks[name].port)
        names = (*OTHERS, SPARE_GATEWAY) if has_spare_gateway else OTHERS
        others = await opening.enter_async_context(run_services(stack, *names, settings=other_settings))
        running_gateways = await opening.enter_async_context(run_services(stack, *gateways, settings=gateway_settings))
        yield FaultEnvironment(backing, stack, running_gateways, others, networks, Random(seed), pace)  # noqa: S311


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    credentials = f"{user}@" if user else ""
    return urlunsplit(parts._replace(netloc=f"{credentials}{host.partition(':')[0]}:{port}"))


async def register(stack: Stack, number: int = 3) -> list[SenderSystem]:
    """Systems that may send, and the schema that some of their events break."""
    await publish_structure(stack, "order_placed", ORDER_SCHEMA)
    registered = [await register_system(stack, f"System {n}") for n in range(number)]
    return [SenderSystem(str(system.system_id), system.api_key) for system in registered]


@asynccontextmanager
async def run_load(plan: LoadPlan) -> AsyncIterator[Ledger]:
    """Send inside; at the end wait for the last answers. The ledger given is filled then."""
    ledger = Ledger()
    with tempfile.TemporaryDirectory(prefix="tracking-load-") as folder:
        plan.file = str(Path(folder) / "ledger.json")
        command = [sys.executable, "-m", "tests.faults.load_generator"]
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, cwd=ROOT)
        assert process.stdin is not None
        try:
            process.stdin.write(plan.to_json().encode() + b"\n")
            await process.stdin.drain()
            yield ledger
            process.stdin.close()
            code = await asyncio.wait_for(process.wait(), 90)
            assert code == 0, f"the load generator ended with {code}"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        known = Ledger.read(Path(plan.file))
    ledger.events, ledger.attempts = known.events, known.attempts
    ledger.ended_at, ledger.cpu_share = known.ended_at, known.cpu_share
