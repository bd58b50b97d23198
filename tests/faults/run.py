"""Runs one fault: start servers and services, start the load, break and repair, stop the load, wait, compare."""

import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.faults import facts
from tests.faults.checker import Findings, check
from tests.faults.edge import edge
from tests.faults.environment import SPARE_GATEWAY, FaultEnvironment, open_environment, register, run_load
from tests.faults.ledger import Ledger
from tests.faults.load_generator import LoadPlan
from tests.faults.rolling_restart import DRAIN_DELAY_S
from tests.faults.scenarios import Fault
from tests.support.backing_services import LocalServices
from tests.support.stack import Stack

VISIBLE_WITHIN_S = 60.0
# A sender of this haste repeats an event while the gateway that froze still holds its key.
HASTY_S = 1.0


@dataclass(slots=True)
class FaultRow:
    """A line of the table. Times in seconds; `p99_ms` is of the requests that 202 answered while the fault lasted."""

    fault: str
    what: str
    sent: int = 0
    acknowledged: int = 0
    rejected: int = 0
    unknown: int = 0
    lost: int = 0
    twice: int = 0
    other: list[str] = field(default_factory=list)
    again_202_s: float = math.nan
    visible_s: float = math.nan
    p99_ms: float = math.nan
    generator_cores: float = 0.0

    @property
    def is_good(self) -> bool:
        """Every promise was kept."""
        return not (self.lost or self.twice or self.other)


async def run_fault(
    fault: Fault,
    backing: LocalServices,
    stack: Stack,
    seed: int,
    *,
    pace: float = 1.0,
    settings: Mapping[str, str] | None = None,
) -> FaultRow:
    """Its line, with `settings` for every process. What the checker does not look for stands in `other` too."""
    row = FaultRow(fault.name, fault.what)
    if fault.max_connections is not None:
        backing.set_max_connections(fault.max_connections)
    try:
        async with _opened(fault, backing, stack, seed, pace, {**fault.settings, **(settings or {})}) as (site, url):
            plan = LoadPlan(url, await register(stack), seed, per_second=fault.per_second)
            if fault.has_spare_gateway:
                plan.other_urls, plan.timeout_s = [site.others.url(SPARE_GATEWAY)], HASTY_S
            async with run_load(plan) as ledger:
                await site.pause(2, 3)
                await fault.run(site)
                await site.pause(2, 3)
            fill_times(row, ledger, site.broken_at, site.mended_at)
            row.other += site.broken_promises
            if not fault.may_fail_requests:
                row.other += failed_requests(ledger)
            if fault.has_spare_gateway:
                row.other += unavailable_first_attempts(ledger, gateway=1)
            row.visible_s = await facts.until_visible(stack, ledger, VISIBLE_WITHIN_S)
            fill_findings(row, ledger, check(await facts.gather(stack, ledger, site.others)))
    except Exception as error:  # the other faults are to be tried all the same
        row.other.append(f"{type(error).__name__}: {error}")
    finally:
        if fault.max_connections is not None:
            backing.set_max_connections(None)
    return row


@asynccontextmanager
async def _opened(
    fault: Fault, backing: LocalServices, stack: Stack, seed: int, pace: float, settings: Mapping[str, str]
) -> AsyncIterator[tuple[FaultEnvironment, str]]:
    """The site, and where to send."""
    if not fault.is_behind_edge:
        async with open_environment(
            backing,
            stack,
            seed,
            pace=pace,
            gateways=fault.gateways,
            is_proxied=fault.is_proxied,
            has_spare_gateway=fault.has_spare_gateway,
            settings=settings,
        ) as site:
            yield site, site.gateways.url("gateway")
        return
    names = ("gateway", "gateway-2")
    settings = {**settings, "TRACKING_DRAIN_DELAY_S": str(DRAIN_DELAY_S)}
    async with (
        open_environment(backing, stack, seed, pace=pace, gateways=names, settings=settings) as site,
        edge([site.gateways.url(name) for name in names]) as url,
    ):
        yield site, url


def failed_requests(ledger: Ledger) -> list[str]:
    """Describe failed requests by status. 202 means stored, and 400 is expected for envelopes that are no events."""
    failed = Counter(attempt.status for attempt in ledger.attempts if attempt.status not in (202, 400))
    return [f"{failed.total()} of {len(ledger.attempts)} requests failed: {dict(failed)}"] if failed else []


def unavailable_first_attempts(ledger: Ledger, gateway: int) -> list[str]:
    """Describe the events that no other gateway can have begun to store, and that this one did not take."""
    first = [attempt for attempt in ledger.attempts if attempt.gateway == gateway and not attempt.is_repeat]
    number = sum(attempt.status >= 500 for attempt in first)
    return [f"{number} of {len(first)} first attempts at gateway {gateway} were not taken"] if number else []


def fill_times(row: FaultRow, ledger: Ledger, broken_at: Sequence[float], mended_at: Sequence[float]) -> None:
    """How long it took to answer 202 again (the worst of the fault's repeats), and the latency meanwhile."""
    answered = [attempt for attempt in ledger.attempts if attempt.status == 202]
    firsts = [min((a.ended_at for a in answered if a.ended_at >= at), default=math.inf) - at for at in mended_at]
    row.again_202_s = max(firsts, default=0.0)
    end = max(mended_at, default=0.0) + row.again_202_s
    start = min(broken_at, default=0.0)
    latencies = sorted(a.ended_at - a.sent_at for a in answered if a.ended_at > start and a.sent_at < end)
    if latencies:
        row.p99_ms = 1000 * latencies[min(len(latencies) - 1, math.ceil(0.99 * len(latencies)) - 1)]


def fill_findings(row: FaultRow, ledger: Ledger, findings: Findings) -> None:
    """Describe the ledger of the senders and the findings of the checker."""
    row.sent = len(ledger.events)
    row.acknowledged, row.rejected = ledger.count("acknowledged"), ledger.count("refused")
    row.unknown = ledger.count("unknown")
    row.lost, row.twice = len(findings.lost), len(findings.twice)
    row.generator_cores = ledger.cpu_share
    for kind in ("strangers", "miscounted", "misanswered"):
        found = getattr(findings, kind)
        if found:
            row.other.append(f"{len(found)} {kind}: {found[0]}")
    if findings.dead_letters:
        row.other.append(f"{findings.dead_letters} dead letters")
