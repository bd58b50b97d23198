"""Runs one SDK: registers a partner system, sends all calls, waits until all are visible, and compares them."""

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.sdks.calls import Call, differences, event_name
from tests.sdks.lossy_proxy import run_lossy_proxy
from tests.sdks.sdks import Sdk, Sent, calls_of, send
from tests.support.polling import until
from tests.support.read_model import add_token
from tests.support.registry import register_system
from tests.support.service_processes import ServiceProcesses
from tests.support.stack import Stack

_EVER = {"startDate": "2000-01-01T00:00:00Z", "endDate": "2100-01-01T00:00:00Z"}
_VISIBLE_WITHIN_S = 60.0
SERVICES = ("gateway", "relay", "projector", "statistics", "query")


@dataclass(slots=True)
class SdkRow:
    """A line of the table. `dropped`: answers thrown away; `requests`: those that the gateway answered."""

    sdk: str
    version: str = "?"
    dropped: int = 0
    sent: int = 0
    stored: int = 0
    twice: int = 0
    missing: int = 0
    requests: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Each message once, as it was sent, and counted so."""
        return self.sent == self.stored > 0 and not (self.twice or self.missing or self.wrong)


async def run_sdk(sdk: Sdk, services: ServiceProcesses, stack: Stack, number: int, *, drop_every: int = 0) -> SdkRow:
    """Its line. With `drop_every`, that share of the gateway's answers is lost on the way. What fails is in `wrong`."""
    row = SdkRow(sdk.name, sent=number)
    system, told = await register_system(stack, sdk.name), calls_of(sdk, number)
    before, began = await _requests(services), time.monotonic()
    try:
        if drop_every:
            async with run_lossy_proxy(services.url("gateway"), drop_every) as proxy:
                sent = await send(sdk, f"http://127.0.0.1:{proxy.port}", system.api_key, told)
            row.dropped = proxy.dropped
            if not proxy.dropped:
                row.wrong.append(f"no answer was lost of {proxy.answers}")
        else:
            sent = await send(sdk, services.url("gateway"), system.api_key, told)
    except AssertionError as error:
        row.wrong.append(str(error))
        return row
    row.seconds = time.monotonic() - began
    row.requests, row.version = await _requests(services) - before, sent.version
    await until_visible(stack, system.system_id, number)
    async with querying(services, stack) as query:
        compare(row, told, sent, await events(query, system.system_id))
        row.wrong += statistics_differences(told, await statistics(query, system.system_id))
    return row


def compare(row: SdkRow, told: Sequence[Call], sent: Sent, found: Sequence[Mapping[str, Any]]) -> None:
    """Fill `row` from what was sent and what query shows."""
    by_id: dict[str, list[Mapping[str, Any]]] = {}
    for event in found:
        by_id.setdefault(str(event["messageId"]), []).append(event)
    row.stored = len(found)
    if len(set(sent.message_ids)) != len(told):
        row.wrong.append(f"{len(set(sent.message_ids))} message ids for {len(told)} calls")
    for call, message_id in zip(told, sent.message_ids, strict=True):
        events = by_id.pop(message_id, [])
        row.missing += not events
        row.twice += len(events) > 1
        faults = [fault for event in events for fault in differences(call, event)]
        row.wrong += [f"{call['kind']} {call['number']}: {fault}" for fault in faults]
    row.wrong += [f"nobody sent {message_id}" for message_id in by_id]


def statistics_differences(told: Sequence[Call], found: Mapping[str, Any]) -> list[str]:
    """Describe the statistics that differ from the calls. No event may be invalid or a bot's."""
    counts = Counter(map(event_name, told))
    wanted = {"totalEvents": len(told), "validEvents": len(told), "invalidEvents": 0, "eventCounts": dict(counts)}
    return [f"{name}: {found[name]}, not {value}" for name, value in wanted.items() if found[name] != value]


async def events(query: httpx.AsyncClient, system_id: UUID) -> list[Mapping[str, Any]]:
    """All of a system, page by page."""
    found: list[Mapping[str, Any]] = []
    parameters = {**_EVER, "pageSize": "1000"}
    while True:
        answer = await query.get(f"/api/events/partner-system/{system_id}", params=parameters)
        answer.raise_for_status()
        page = answer.json()
        found += page["events"]
        if page["nextCursor"] is None:
            return found
        parameters = {**_EVER, "cursor": page["nextCursor"], "pageSize": "1000"}


@asynccontextmanager
async def querying(services: ServiceProcesses, stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """A client of query that may see everything."""
    headers = {"Authorization": f"Bearer {await add_token(stack)}"}
    async with httpx.AsyncClient(base_url=services.url("query"), headers=headers, timeout=20) as client:
        yield client


async def statistics(query: httpx.AsyncClient, system_id: UUID) -> Mapping[str, Any]:
    """Of a system, over all time."""
    answer = await query.get(f"/api/events/partner-system/{system_id}/statistics", params=_EVER)
    answer.raise_for_status()
    found: Mapping[str, Any] = answer.json()
    return found


async def until_visible(stack: Stack, system_id: UUID, number: int) -> None:
    """Wait until all that is stored of the system is projected and counted; what is missing then, is found later."""
    write, read = await stack.write(), await stack.read()

    async def counts() -> tuple[int, int, int]:
        where = "where partner_system_id = $1"
        return (
            await write.fetchval(f"select count(*) from write.tracking_events {where}", system_id),  # noqa: S608
            await read.fetchval(f"select count(*) from read.tracking_events_read_model {where}", system_id),  # noqa: S608
            int(await read.fetchval(f"select sum(total) from read.event_counts_hourly {where}", system_id) or 0),  # noqa: S608
        )

    with contextlib.suppress(AssertionError):
        await until(counts, lambda now: min(now) == max(now) >= number, _VISIBLE_WITHIN_S)


async def _requests(services: ServiceProcesses) -> int:
    """POSTs of SDKs that the gateway has answered so far."""
    async with httpx.AsyncClient(base_url=services.url("gateway"), timeout=20) as client:
        text = (await client.get("/metrics")).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return int(
        sum(
            sample.value
            for sample in samples
            if sample.name == "http_server_requests_total" and sample.labels["route"].startswith("/v1/")
        )
    )
