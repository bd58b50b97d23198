"""Offers three times the system's capacity for a minute. It must shed load and keep its memory limit and speed."""

import asyncio
import json
import math
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, median

import httpx

from tests.faults.environment import open_environment
from tests.faults.open_loop_load import OpenLoopLoad, ResponseCounts
from tests.load import wrk
from tests.load.measure import an_event
from tests.support.backing_services import LocalServices
from tests.support.registry import register_system
from tests.support.service_processes import ROOT
from tests.support.stack import Stack

TIMES_CAPACITY = 3
BATCH = 100
_CONNECTIONS = 16
_WARM_UP_S, _PROBE_S, _CAPACITY_S = 2, 10, 30
# of a share that differs by a tenth and more from run to run on two cores
LEAST_GOODPUT = 0.8
MAX_MEMORY_MIB = 768
_MAX_RECOVERY_S = 3.0
_NORMAL_TIMES = 3
_SAMPLE_EVERY_S = 0.25
_VISIBLE_WITHIN_S = 240.0


@dataclass(slots=True)
class Overload:
    """Rates in events a second. `goodput` is what was acknowledged meanwhile over `capacity`.

    Capacity is what is acknowledged while as much is offered as can be taken, by the same generator: the mean of half a
    minute before and one after, because it falls as the tables grow from nothing.
    """

    capacities: list[float] = field(default_factory=list)
    offered: float = math.nan
    goodput: float = math.nan
    statuses: dict[str, int] = field(default_factory=dict)
    p99_ms: float = math.nan
    memory_before_mib: float = math.nan
    memory_mib: float = math.nan
    normal_ms: float = math.nan
    recovery_s: float = math.nan
    visible_s: float = math.nan
    generator_late_s: float = math.nan
    generator_cores: float = math.nan
    lost: int = 0
    twice: int = 0
    other: list[str] = field(default_factory=list)

    @property
    def capacity(self) -> float:
        """Events a second."""
        return mean(self.capacities) if self.capacities else math.nan

    @property
    def is_good(self) -> bool:
        """Every promise was kept."""
        return not (self.lost or self.twice or self.other)

    def line(self) -> str:
        """For people."""
        return (
            f"overload: capacity {self.capacity:,.0f} events/s, offered {self.offered:,.0f}/s "
            f"({self.offered / self.capacity:.1f} ×), goodput {self.goodput:.2f} of capacity; answers {self.statuses}, "
            f"p99 of a 202 {self.p99_ms:.0f} ms; memory {self.memory_before_mib:.0f} MiB, then {self.memory_mib:.0f}; "
            f"normal again {self.recovery_s:.2f} s after it (a request takes {self.normal_ms:.1f} ms); "
            f"all visible after {self.visible_s:.0f} s; {self.lost} lost, {self.twice} twice"
        )


async def run_overload(backing: LocalServices, stack: Stack, seed: int, *, seconds: float = 60.0) -> Overload:
    """Measure capacity, then flood, then look how fast it is itself again."""
    found = Overload()
    try:
        async with open_environment(backing, stack, seed) as site:
            single = an_event((await register_system(stack)).api_key)
            event = {name: value for name, value in single.items() if name != "apiKey"}
            batch = json.dumps({"apiKey": single["apiKey"], "events": [event] * BATCH})
            gateway, pid = site.gateways.url("gateway"), site.gateways.pid("gateway")
            await _closed_loop(gateway, batch, _WARM_UP_S)
            await asyncio.sleep(1)
            found.normal_ms = median([await _one(gateway, single) for _ in range(30)])
            per_second = await _closed_loop(gateway, batch, _PROBE_S)
            port = int(gateway.rpartition(":")[2])
            full = OpenLoopLoad(port, "/api/events/batch", batch, per_second, _CAPACITY_S)
            await _measure_capacity(found, full, pid)
            found.memory_before_mib = _memory_mib(pid)
            flood = replace(full, per_second=TIMES_CAPACITY * found.capacity / BATCH, seconds=seconds)
            count, found.memory_mib = await _flood(flood, pid)
            ended_at = time.monotonic()
            while await _one(gateway, single) > _NORMAL_TIMES * found.normal_ms:
                assert time.monotonic() - ended_at < _MAX_RECOVERY_S * 10, "not itself again"
            found.recovery_s = time.monotonic() - ended_at
            found.statuses = count.statuses
            await _compare(stack, found, ended_at)
            await _measure_capacity(found, full, pid)
            _judge(found, count, flood)
    except AssertionError as error:
        found.other.append(str(error))
    return found


async def _closed_loop(gateway: str, batch: str, seconds: float) -> float:
    """Requests a second of senders that wait for their answers: about what can be taken."""
    url = f"{gateway}/api/events/batch"
    run = await asyncio.to_thread(wrk.post, url, batch.encode(), connections=_CONNECTIONS, seconds=seconds)
    return run.per_second


async def _measure_capacity(found: Overload, full: OpenLoopLoad, pid: int) -> None:
    count, _ = await _flood(full, pid)
    found.capacities.append(count.statuses.get("202", 0) * BATCH / full.seconds)


async def _one(gateway: str, single: dict[str, object]) -> float:
    """Milliseconds of one request on a connection of its own; endless if it is not taken."""
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=10) as client:
        try:
            response = await client.post(f"{gateway}/api/events/ingest", json=single)
        except httpx.TransportError:
            return math.inf
    return 1000 * (time.monotonic() - began) if response.status_code == 202 else math.inf


async def _flood(flood: OpenLoopLoad, pid: int) -> tuple[ResponseCounts, float]:
    """The generator's count, and the most memory of the process `pid` meanwhile."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "tests.faults.open_loop_load"]
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=ROOT, limit=2**27)
    talking = asyncio.create_task(process.communicate(json.dumps(asdict(flood)).encode()))
    most_mib = 0.0
    try:
        while not talking.done():
            most_mib = max(most_mib, _memory_mib(pid))
            await asyncio.wait([talking], timeout=_SAMPLE_EVERY_S)
    finally:
        if process.returncode is None:
            process.kill()
    output, _ = await talking
    return ResponseCounts(**json.loads(output)), most_mib


def _memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _judge(found: Overload, count: ResponseCounts, flood: OpenLoopLoad) -> None:
    found.offered = flood.per_second * BATCH
    # what was answered after the last request was sent is not of this minute's rate, but as little as a timeout's worth
    found.goodput = count.statuses.get("202", 0) * BATCH / flood.seconds / found.capacity
    found.generator_late_s, found.generator_cores = count.late_s, count.cores
    latencies = sorted(count.latencies_ms)
    found.p99_ms = latencies[int(0.99 * len(latencies))] if latencies else math.nan
    wrongs = {
        f"goodput {found.goodput:.2f} of capacity": found.goodput < LEAST_GOODPUT,
        f"{found.memory_mib:.0f} MiB": found.memory_mib > MAX_MEMORY_MIB,
        f"normal again only after {found.recovery_s:.1f} s": found.recovery_s > _MAX_RECOVERY_S,
        f"{count.without_retry_after} answers without Retry-After": count.without_retry_after > 0,
        f"answers {count.statuses}": not set(count.statuses) <= {"202", "503", "429", "0"},
    }
    found.other += [text for text, is_wrong in wrongs.items() if is_wrong]


async def _compare(stack: Stack, found: Overload, ended_at: float) -> None:
    """By number: the events have no ids of their own, so what was acknowledged is a lower bound of what is stored."""
    write, read = await stack.write(), await stack.read()
    stored = seen = -1
    while time.monotonic() - ended_at < _VISIBLE_WITHIN_S:
        stored = await write.fetchval("select count(*) from write.tracking_events")
        seen = await read.fetchval("select count(*) from read.tracking_events_read_model")
        counted = await read.fetchval("select coalesce(sum(total), 0) from read.event_counts_hourly")
        by_day = await read.fetchval("select coalesce(sum(valid + invalid), 0) from read.event_counts_daily")
        if stored == seen == counted == by_day:
            break
        await asyncio.sleep(1)
    found.visible_s = time.monotonic() - ended_at
    acknowledged = found.statuses.get("202", 0) * BATCH
    distinct = await read.fetchval(
        "select count(*) from (select distinct partner_system_id, id from read.tracking_events_read_model) as once"
    )
    found.lost = max(acknowledged - stored, 0) + max(stored - distinct, 0)
    found.twice = seen - distinct
    if (counted, by_day) != (stored, stored):
        found.other.append(f"{stored} stored, {counted} counted by hour, {by_day} by day")
