"""Waits until all events are visible, then reads the facts for the checker: both databases, query, dead letters."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from tests.faults.checker import ExpectedCounts, Facts, RollupKey, StoredEvent
from tests.faults.ledger import Ledger
from tests.support.service_processes import ServiceProcesses
from tests.support.stack import Stack
from tracking.contracts import topology

_ROWS = "partner_system_id, id, event_properties->>'marker', event_name, date_trunc('hour', event_timestamp), is_valid"
_STORED = f"select {_ROWS} from write.tracking_events"  # noqa: S608
_SEEN = f"select {_ROWS} from read.tracking_events_read_model"  # noqa: S608
_COUNTED = """
select partner_system_id, bucket, event_name, sum(total)::bigint, sum(valid)::bigint, sum(invalid)::bigint
  from read.event_counts_hourly
 group by 1, 2, 3
"""
_COUNTED_DAYS = """
select partner_system_id, day::timestamp at time zone 'UTC', event_name, valid + invalid, valid, invalid
  from read.event_counts_daily
"""
# Longer than a commit may take: what nobody knows of may still be stored for so long.
_LAST_COMMIT_S = 7.0
_LOOK_INTERVAL_S = 0.2
_EVER = {"startDate": "2000-01-01T00:00:00Z", "endDate": "2100-01-01T00:00:00Z", "includeBots": "true"}


async def until_visible(stack: Stack, ledger: Ledger, deadline_s: float) -> float:
    """Wait until every stored event is projected and counted; the seconds that took from the load's end.

    Being late is no failure of its own: what is missing then, the checker finds.
    """
    write, read = await asyncpg.connect(stack.write_url()), await asyncpg.connect(stack.read_url())
    try:
        has_late = ledger.count("unknown") > 0
        since = math.inf
        while time.monotonic() - ledger.ended_at < deadline_s:
            looked_at = time.monotonic()
            stored = await write.fetchval("select count(*) from write.tracking_events")
            seen = await read.fetchval("select count(*) from read.tracking_events_read_model")
            counted = await read.fetchval("select coalesce(sum(total), 0) from read.event_counts_hourly")
            is_settled = not has_late or looked_at - ledger.ended_at > _LAST_COMMIT_S
            since = min(since, looked_at) if stored == seen == counted else math.inf
            if is_settled and since < math.inf:
                break
            await asyncio.sleep(_LOOK_INTERVAL_S)
    finally:
        await write.close()
        await read.close()
    return since - ledger.ended_at


async def gather(stack: Stack, ledger: Ledger, services: ServiceProcesses) -> Facts:
    """Everything as it is now; `services` has query and its token."""
    stored = [StoredEvent(*row) for row in await _rows(stack.write_url(), _STORED)]
    seen = [StoredEvent(*row) for row in await _rows(stack.read_url(), _SEEN)]
    counts = await _rows(stack.read_url(), _COUNTED)
    days = await _rows(stack.read_url(), _COUNTED_DAYS)
    [[kept]] = await _rows(stack.write_url(), "select count(*) from write.dead_letters")
    return Facts(
        sent=ledger.events,
        stored=stored,
        seen=seen,
        counted={RollupKey(*row[:3]): ExpectedCounts(*row[3:]) for row in map(tuple, counts)},
        days={RollupKey(*row[:3]): ExpectedCounts(*row[3:]) for row in map(tuple, days)},
        queried=await _ask_query(services, sorted({UUID(event.system_id) for event in ledger.events})),
        dead_letters=kept + _dead_messages(stack),
    )


async def _rows(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def _ask_query(services: ServiceProcesses, systems: Sequence[UUID]) -> dict[UUID, int]:
    headers = {"Authorization": f"Bearer {services.admin_token}"}
    async with httpx.AsyncClient(base_url=services.url("query"), headers=headers, timeout=20) as client:
        answers: dict[UUID, int] = {}
        for system in systems:
            answer = await client.get(f"/api/events/partner-system/{system}/statistics", params=_EVER)
            answer.raise_for_status()
            answers[system] = answer.json()["totalEvents"]
        return answers


def _dead_messages(stack: Stack) -> int:
    number = 0
    for consumer in topology.CONSUMERS:
        path = f"/api/queues/{stack.virtual_host}/{topology.get_queue_names(consumer).dead_letter}"
        number += stack.manage("GET", path).json().get("messages", 0)
    return number
