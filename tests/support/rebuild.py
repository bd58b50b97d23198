"""Runs `rebuild read-model` as an operator would, and reads the content of the read database before and after."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg

from deploy.local.services import make_cli_environment
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.registry import Registered
from tests.support.service_processes import ROOT, ServiceProcesses
from tests.support.stack import Stack
from tracking.domain.timestamps import to_unix_ms

QUICK = {"TRACKING_TICK_S": "0.1", "TRACKING_UNPUBLISHED_AFTER_S": "0.3", "TRACKING_UNAPPLIED_AFTER_S": "0.5"}
WORKERS = ("relay", "projector", "statistics")

# every column but the one that says when the row was written
EVENTS = """
select to_jsonb(r) - 'processed_at' as event
  from read.tracking_events_read_model r
 order by partner_system_id, id, event_timestamp
"""

COUNTS = """
select partner_system_id, bucket, event_name, total, valid, invalid, bots_valid, bots_invalid
  from read.event_counts_hourly
 order by 1, 2, 3
"""

DAYS = """
select partner_system_id, day, event_name, valid, invalid, bots_valid, bots_invalid
  from read.event_counts_daily
 order by 1, 2, 3
"""

RECOUNT_OF_DAYS = """
select partner_system_id,
       (event_timestamp at time zone 'UTC')::date as day,
       event_name,
       count(*) filter (where is_valid and not is_bot) as valid,
       count(*) filter (where not is_valid and not is_bot) as invalid,
       count(*) filter (where is_valid and is_bot) as bots_valid,
       count(*) filter (where not is_valid and is_bot) as bots_invalid
  from read.tracking_events_read_model
 group by 1, 2, 3
 order by 1, 2, 3
"""

RECOUNT = """
select partner_system_id,
       date_trunc('hour', event_timestamp at time zone 'UTC') at time zone 'UTC' as bucket,
       event_name,
       count(*) filter (where not is_bot) as total,
       count(*) filter (where is_valid and not is_bot) as valid,
       count(*) filter (where not is_valid and not is_bot) as invalid,
       count(*) filter (where is_valid and is_bot) as bots_valid,
       count(*) filter (where not is_valid and is_bot) as bots_invalid
  from read.tracking_events_read_model
 group by 1, 2, 3
 order by 1, 2, 3
"""

STORED = """
select to_jsonb(e) - 'sent_at' as event
  from write.tracking_events e
 order by partner_system_id, id
"""

PROJECTED = """
select to_jsonb(r) - '{partner_id,partner_name,system_name,processed_at}'::text[] as event
  from read.tracking_events_read_model r
 order by partner_system_id, id
"""

LINKS = """
select partner_system_id, kind, id, user_id, linked_at, event_id
  from read.identities
 order by 1, 2, 3
"""

# what the links must be, from the stored events alone
JUSTIFIED = """
select distinct on (partner_system_id, kind, id) partner_system_id, kind, id, user_id, linked_at, event_id
  from (
        select partner_system_id, 'anonymous' as kind, anonymous_id as id, user_id, event_timestamp as linked_at,
               e.id as event_id
          from write.tracking_events e
         where event_type = 'identify'
        union all
        select partner_system_id, kind, event_properties ->> 'previousId', user_id, event_timestamp, e.id
          from write.tracking_events e
         cross join unnest(array['anonymous', 'user']) as named (kind)
         where event_type = 'alias'
       ) as claimed
 where id is not null
   and user_id is not null
   and not 'undefined' in (lower(trim(' "' from id)), lower(trim(' "' from user_id)))
   and (kind, id) <> ('user', user_id)
 order by 1, 2, 3, linked_at, event_id
"""

INBOX = """
select batch_id, consumer
  from read.applied_batches
 order by 1, 2
"""


@dataclass(frozen=True, slots=True)
class FinishedRebuild:
    """The exit status and the output of a rebuild command."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """Of `--json`."""
        return json.loads(self.out)


@contextlib.contextmanager
def launched(stack: Stack, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """The command, killed at the end if it still runs."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRACKING_")}
    with subprocess.Popen(
        [sys.executable, "-m", "services.cli", "rebuild", "read-model", "--json", *arguments],
        env=inherited | make_cli_environment(stack),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def finish(process: "subprocess.Popen[str]") -> FinishedRebuild:
    out, err = await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
    return FinishedRebuild(process.returncode, out, err)


async def rebuild(stack: Stack, *arguments: str, status: int = 0) -> FinishedRebuild:
    """Run the command to its end."""
    with launched(stack, *arguments) as process:
        finished = await finish(process)
    assert finished.status == status, finished
    return finished


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that users see of the read model, and the inbox that makes it exactly once."""

    events: list[asyncpg.Record]
    counts: list[asyncpg.Record]
    days: list[asyncpg.Record]
    inbox: list[asyncpg.Record]
    links: list[asyncpg.Record]


async def content(stack: Stack) -> Content:
    read = await stack.read()
    return Content(*[await read.fetch(table) for table in (EVENTS, COUNTS, DAYS, INBOX, LINKS)])


async def assert_counted(stack: Stack) -> None:
    """The counts by hour and by day are those of the events."""
    read = await stack.read()
    assert await read.fetch(COUNTS) == await read.fetch(RECOUNT)
    assert await read.fetch(DAYS) == await read.fetch(RECOUNT_OF_DAYS)


async def assert_exact(stack: Stack) -> None:
    """Each stored event is there once, and counts and links are those of the events."""
    write, read = await stack.write(), await stack.read()
    assert await read.fetch(PROJECTED) == await write.fetch(STORED)
    await assert_counted(stack)
    assert await read.fetch(LINKS) == await write.fetch(JUSTIFIED)


_COUNT_UNAPPLIED = """
select count(*)
  from unnest($1::uuid[]) as committed (id)
 cross join unnest(array['projector', 'statistics']) as known (consumer)
  left join read.applied_batches as applied
    on applied.batch_id = committed.id
   and applied.consumer = known.consumer
 where applied.batch_id is null
"""


async def assert_nothing_to_correct(services: ServiceProcesses, stack: Stack) -> None:
    """All that was stored is applied, and a rebuild finds nothing missing, wrong, doubled or unknown.

    `services` runs the relay and both consumers.
    """
    write, read = await stack.write(), await stack.read()
    committed = [row["id"] for row in await write.fetch("select id from write.event_batches")]
    await until(lambda: read.fetchval(_COUNT_UNAPPLIED, committed), lambda number: number == 0)

    finished = await rebuild(stack, "--delete-strays")

    assert await write.fetchval("select count(*) from write.dead_letters") == 0
    corrections = {
        name: number for name, number in finished.result.items() if name.startswith(("repaired", "deleted", "missing"))
    }
    assert set(corrections.values()) == {0}, corrections
    assert finished.result["failedBatches"] == []
    assert await read.fetch(PROJECTED) == await write.fetch(STORED)
    await assert_counted(stack)


async def send(services: ServiceProcesses, sender: Registered, events: list[dict[str, Any]]) -> None:
    async with http_client(base_url=services.url("gateway"), timeout=20) as client:
        response = await client.post("/api/events/batch", json={"apiKey": sender.api_key, "events": events})
    assert response.status_code == 202, response.text
    assert response.json()["refused"] == 0


def mixed(numbers: range) -> list[dict[str, Any]]:
    """Events of this year and of 2004, with ids of their own and without, some undated, some invalid."""
    events: list[dict[str, Any]] = []
    for n in numbers:
        event: dict[str, Any] = {"eventName": f"name_{n % 3}", "userId": f"user_{n % 10}", "eventProperties": {"n": n}}
        if n % 2:
            event["eventId"] = f"e{n}"
        if n % 5:
            year = 2004 if n % 7 == 0 else 2026
            event["eventTimestamp"] = f"{year}-{n % 9 + 1:02d}-{n % 28 + 1:02d}T{n % 24:02d}:30:00.{n % 1000:03d}Z"
        if n % 11 == 0:
            event["eventProperties"] = [n]
        if n % 13 == 0:
            event |= {"eventType": "page", "context": {"locale": "de", "n": n}}
        if n % 17 == 0:
            event |= {"eventType": "identify", "anonymousId": f"visitor_{n % 51}"}
        if n % 19 == 0:
            event |= {"eventType": "alias", "eventProperties": {"previousId": f"user_{n // 19 % 10}"}}
        events.append(event)
    return events


def plain(numbers: range, at: str = "2026-03-01T10:30:00Z") -> list[dict[str, Any]]:
    """Small events of one hour."""
    return [{"eventName": f"name_{n % 3}", "userId": "u", "eventId": f"p{n}", "eventTimestamp": at} for n in numbers]


async def next_millisecond() -> datetime:
    """A moment after every id made so far, and before every one made from now on."""

    async def now_ms() -> int:
        return to_unix_ms(datetime.now(UTC))

    known = await now_ms()
    moment = datetime.fromtimestamp(await until(now_ms, lambda ms: ms > known) / 1000, UTC)
    await until(now_ms, lambda ms: ms > to_unix_ms(moment))
    return moment


async def reach(stack: Stack, number: int) -> None:
    """Wait until both workers have applied `number` events."""
    read = await stack.read()

    async def both() -> tuple[int, int]:
        return (
            await read.fetchval("select count(*) from read.tracking_events_read_model"),
            int(await read.fetchval("select coalesce(sum(total), 0) from read.event_counts_hourly")),
        )

    await until(both, lambda counts: min(counts) >= number)
    assert await both() == (number, number)


EMPTY = """
truncate read.tracking_events_read_model, read.applied_batches, read.event_counts_hourly, read.event_counts_daily,
    read.range_versions, read.partner_systems, read.consumer_progress, read.access_tokens, read.identities,
    read.identity_versions
"""


async def send_mixed(services: ServiceProcesses, stack: Stack, senders: list[Registered]) -> None:
    """900 events in nine batches, applied by both workers."""
    for index in range(9):
        await send(services, senders[index % 3], mixed(range(index * 100, index * 100 + 100)))
    await reach(stack, 900)
