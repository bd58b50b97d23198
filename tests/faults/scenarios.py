"""All faults. Each breaks a part of the system and repairs it, several times, at random moments, under load."""

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import redis

from tests.faults import revocations, unfinished_commits
from tests.faults.dump import RETENTION_MONTHS, dump_during_upkeep
from tests.faults.environment import OTHERS, FaultEnvironment
from tests.faults.rolling_restart import restart_in_turn
from tracking.contracts import topology

_TIMES = 3
_WORKERS = ("projector", "statistics")
_SERVERS = ("postgres", "rabbitmq", "redis")


@dataclass(frozen=True, slots=True)
class Fault:
    """`run` returns when everything is repaired; the product may still be recovering then."""

    name: str
    what: str
    run: Callable[[FaultEnvironment], Awaitable[None]]
    is_proxied: bool = False
    gateways: Sequence[str] = ("gateway",)
    """The load goes to the first."""
    max_connections: int | None = None
    has_spare_gateway: bool = False
    """Half of the load goes to a second gateway that nothing breaks, and each repeat to the other one; the first
    attempts at the second are all stored."""
    is_behind_edge: bool = False
    """Two gateways behind an edge: no request may fail at all, and processes drain as long as they do by default."""
    may_fail_requests: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    """For every process."""
    per_second: float = 120.0
    """Requests of the load."""


async def _kill_service(site: FaultEnvironment, name: str) -> None:
    services = site.services(name)
    for _ in range(_TIMES):
        await site.pause(0.5, 3)
        site.record_break()
        await services.kill(name)
        await site.pause(0, 1.5)
        site.record_repair()
        await services.start(name)


async def _freeze(site: FaultEnvironment, *names: str) -> None:
    """SIGSTOP: the process is there, holds its connections, and does nothing."""
    await site.pause(0.5, 2)
    site.record_break()
    for name in names:
        site.services(name).signal(name, signal.SIGSTOP)
    await site.pause(4, 7)
    site.record_repair()
    for name in names:
        site.services(name).signal(name, signal.SIGCONT)


async def _end_server(site: FaultEnvironment, name: str, *, is_killed: bool, times: int = 2) -> None:
    for _ in range(times):
        await site.pause(0.5, 3)
        site.record_break()
        if is_killed:
            site.backing.kill(name)
        else:
            site.backing.stop(name)
        await site.pause(0, 2)
        site.backing.start_again(name)
        site.record_repair()


async def _memory_alarm(site: FaultEnvironment) -> None:
    await site.pause(0.5, 2)
    site.record_break()
    site.rabbitmqctl("set_vm_memory_high_watermark", "0")
    await site.pause(6, 9)
    site.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
    site.record_repair()


async def _disk_alarm(site: FaultEnvironment) -> None:
    await site.pause(0.5, 2)
    site.record_break()
    site.rabbitmqctl("set_disk_free_limit", "1000000GB")
    await site.pause(6, 9)
    site.rabbitmqctl("set_disk_free_limit", "200MB")
    site.record_repair()


async def _delete_queues(site: FaultEnvironment) -> None:
    for consumer in topology.CONSUMERS:
        await site.pause(1, 3)
        site.record_break()
        site.stack.manage("DELETE", f"/api/queues/{site.stack.virtual_host}/{topology.get_queue_names(consumer).work}")
        site.record_repair()


async def _purge_queues(site: FaultEnvironment) -> None:
    """While the workers stand still, so that there is something to purge."""
    await site.pause(0.5, 2)
    site.record_break()
    for worker in _WORKERS:
        site.others.signal(worker, signal.SIGSTOP)
    await site.pause(3, 5)
    for worker in _WORKERS:
        queue = topology.get_queue_names(worker).work
        site.stack.manage("DELETE", f"/api/queues/{site.stack.virtual_host}/{queue}/contents")
    site.record_repair()
    for worker in _WORKERS:
        site.others.signal(worker, signal.SIGCONT)


async def _close_connections(site: FaultEnvironment) -> None:
    for _ in range(_TIMES):
        await site.pause(0.5, 2)
        site.record_break()
        site.rabbitmqctl("close_all_connections", "--vhost", site.stack.virtual_host, "on purpose")
        site.record_repair()


async def _flush_redis(site: FaultEnvironment) -> None:
    with redis.Redis.from_url(site.stack.redis_url) as client:
        for _ in range(5):
            await site.pause(0.5, 2)
            site.record_break()
            client.flushall()
            site.record_repair()


async def _cut_power(site: FaultEnvironment) -> None:
    """Everything at once; the operating system keeps what was written, so this is a crash of all, not of the disk."""
    await site.pause(1, 3)
    site.record_break()
    await site.gateways.kill("gateway")
    for server in _SERVERS:
        site.backing.kill(server)
    await site.others.kill(*OTHERS)
    for server in _SERVERS:
        site.backing.start_again(server)
    site.record_repair()
    site.others.launch(*OTHERS)
    await site.gateways.start("gateway")
    for name in OTHERS:
        await site.others.ready(name)


async def _cut_network(site: FaultEnvironment, to: str, *, is_reset: bool) -> None:
    for _ in range(2):
        await site.pause(0.5, 2)
        site.record_break()
        if is_reset:
            site.networks[to].reset()
        else:
            site.networks[to].hold()
        await site.pause(2, 7)
        site.networks[to].mend()
        site.record_repair()


FAULTS = (
    *(
        Fault(f"{name}-kill", f"{name}: SIGKILL three times, started again", partial(_kill_service, name=name))
        for name in ("gateway", "relay", "projector", "statistics", "admin", "query")
    ),
    Fault("gateway-frozen", "gateway: SIGSTOP for some seconds", lambda site: _freeze(site, "gateway")),
    Fault("workers-frozen", "projector and statistics: SIGSTOP", lambda site: _freeze(site, *_WORKERS)),
    Fault("postgres-kill", "PostgreSQL: SIGKILL twice", partial(_end_server, name="postgres", is_killed=True)),
    Fault("postgres-restart", "PostgreSQL: restart, twice", partial(_end_server, name="postgres", is_killed=False)),
    Fault("rabbitmq-kill", "RabbitMQ: SIGKILL", partial(_end_server, name="rabbitmq", is_killed=True, times=1)),
    Fault("rabbitmq-restart", "RabbitMQ: restart", partial(_end_server, name="rabbitmq", is_killed=False, times=1)),
    Fault("rabbitmq-memory", "RabbitMQ: memory alarm, then lifted", _memory_alarm),
    Fault("rabbitmq-disk", "RabbitMQ: disk alarm, then lifted", _disk_alarm),
    Fault("queue-deleted", "both work queues deleted", _delete_queues),
    Fault("queue-purged", "both work queues purged while full", _purge_queues),
    Fault("connections-closed", "every AMQP connection closed, three times", _close_connections),
    Fault("redis-kill", "Redis: SIGKILL twice", partial(_end_server, name="redis", is_killed=True)),
    Fault("redis-flush", "Redis: FLUSHALL five times", _flush_redis),
    *(
        Fault(
            f"{to}-{'reset' if is_reset else 'cut'}",
            f"network from gateway to {to} {'resets' if is_reset else 'is silent'}, twice",
            partial(_cut_network, to=to, is_reset=is_reset),
            is_proxied=True,
        )
        for to in ("postgres", "rabbitmq")
        for is_reset in (False, True)
    ),
    *(
        Fault(
            f"revoked-{name}",
            f"keys are revoked while {what}, three times",
            partial(revocations.revoke_keys, breaks=breaks),
            is_proxied=True,
            gateways=revocations.GATEWAYS,
        )
        for name, what, breaks in (
            ("admin-cut", "admin is cut off from Redis", revocations.admin_is_cut_off),
            ("redis-rollback", "Redis loses its last writes", revocations.last_writes_are_lost),
            ("redis-cut", "the network from two gateways to Redis is silent", revocations.gateways_are_cut_off),
        )
    ),
    *(
        Fault(
            name,
            what,
            run,
            is_proxied=True,
            has_spare_gateway=True,
            max_connections=unfinished_commits.MAX_CONNECTIONS,
        )
        for name, what, run in (
            (
                "gateway-frozen-mid-commit",
                "gateway: SIGSTOP between COPY and COMMIT, three times",
                unfinished_commits.freeze,
            ),
            (
                "gateway-host-gone",
                "gateway: its host disappears between COPY and COMMIT, three times",
                unfinished_commits.let_host_disappear,
            ),
        )
    ),
    Fault("power-cut", "every process and server: SIGKILL at once", _cut_power),
    Fault(
        "rolling-restart",
        "every process: SIGTERM, two gateways behind an edge",
        restart_in_turn,
        is_behind_edge=True,
        may_fail_requests=False,
    ),
    Fault(
        "dump",
        "pg_dump of both databases, with partitions to create and to drop",
        dump_during_upkeep,
        may_fail_requests=False,
        settings={"TRACKING_RETENTION_MONTHS": str(RETENTION_MONTHS)},
        per_second=240.0,
    ),
)
