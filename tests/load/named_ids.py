"""`python -m tests.load.named_ids [EVENTS]`: what events with names cost beside events placed by their time.

Two write databases on one fresh PostgreSQL are filled with as many events (10 M unless said), one with dated ids, one
with names, and their keys are made. Then batches of 500 new events are committed into both in turn, by the gateway's
own store, and each batch of names once more, as repeats. Prints medians of the time of a commit, and bytes of WAL and
of the key.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from statistics import median
from uuid import UUID

from services.gateway.commit.store import EventStore
from tests.support.backing_services import LocalServices
from tests.support.events import an_event
from tests.support.stack import Stack, Templates
from tracking.domain.ids import derive_event_id, make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent

_EVENTS = 10_000_000
_BATCH_EVENTS = 500
_ROUNDS = 200
_SYSTEM = UUID(int=7)
_KINDS = ("dated", "named")
# ids with the bits that the gateway's own have; dated ones are spread over 330 days before now
_FILL = """
insert into write.tracking_events
       (partner_system_id, id, event_name, event_timestamp, original_timestamp, received_at, user_id, message_id,
        event_properties, is_valid, clock_adjusted, correlation_id)
select $1, case when $2 = 'named' then overlay(overlay('f' || substr(hash, 2) placing '8' from 13) placing 'a' from 17)
                else lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0')
                     || overlay(overlay(substr(hash, 13) placing '8' from 1) placing 'a' from 5) end::uuid,
       'order_completed', at, at, at, 'user_' || number % 50000, $2 || '-' || number,
       '{"page": "/home", "total": 4990}', true, false, 'c-' || number / 200
  from generate_series($3::bigint, $4::bigint) as number
 cross join lateral (
        select md5(number::text) as hash, now() - (330 * number / $5::float8) * interval '1 day' as at
       ) as made
"""
_KEY_BYTES = """
select sum(pg_relation_size(indexrelid))::bigint
  from pg_index
 where indisprimary
   and indrelid in (select relid from pg_partition_tree('write.tracking_events') where isleaf)
"""


async def _fill(stack: Stack, kind: str, events: int) -> None:
    owner = await stack.write()
    await owner.execute("set synchronous_commit = off; set maintenance_work_mem = '512MB'")
    await owner.execute("alter table write.tracking_events drop constraint tracking_events_pkey")
    step = 500_000
    for first in range(1, events + 1, step):
        await owner.execute(_FILL, _SYSTEM, kind, first, min(first + step - 1, events), events)
    await owner.execute("alter table write.tracking_events add primary key (partner_system_id, id)")
    await owner.execute("vacuum analyze write.tracking_events")


def _make_batch(kind: str, random: Random, numbers: "count[int]") -> list[TrackingEvent]:
    now = datetime.now(UTC)
    events = []
    for _ in range(_BATCH_EVENTS):
        name = f"new-{next(numbers)}"
        at = now + timedelta(microseconds=random.randrange(1_000_000))
        event_id = (
            derive_event_id(_SYSTEM, name, at, is_name=True)
            if kind == "named"
            else make_uuid7(to_unix_ms(at), random.getrandbits(74))
        )
        events.append(
            an_event(
                _SYSTEM,
                event_id,
                message_id=name,
                original_timestamp=at,
                event_properties=b'{"page": "/home", "total": 4990}',
            )
        )
    return sorted(events, key=lambda event: event.id)


async def _commit(store: EventStore, events: list[TrackingEvent], random: Random) -> float:
    now = datetime.now(UTC)
    batch_id = make_uuid7(to_unix_ms(now), random.getrandbits(74))
    started = time.perf_counter()
    await store.commit(batch_id, now, events, is_retry=False, is_brief=False, timeout_s=60)
    return (time.perf_counter() - started) * 1000


async def _measure(stacks: dict[str, Stack]) -> None:
    random, numbers = Random(1), count()  # noqa: S311 - not a secret
    stores = {kind: EventStore(stack.write_url("gateway"), connect_timeout_s=5) for kind, stack in stacks.items()}
    owners = {kind: await stack.write() for kind, stack in stacks.items()}
    before = {kind: await owner.fetchval(_KEY_BYTES) for kind, owner in owners.items()}
    times: dict[str, list[float]] = {kind: [] for kind in (*_KINDS, "repeats of names")}
    wal: dict[str, list[int]] = {kind: [] for kind in _KINDS}
    for _ in range(_ROUNDS):
        for kind in _KINDS:
            events = _make_batch(kind, random, numbers)
            start = await owners[kind].fetchval("select pg_current_wal_lsn()")
            times[kind].append(await _commit(stores[kind], events, random))
            wal[kind].append(
                int(await owners[kind].fetchval("select pg_wal_lsn_diff(pg_current_wal_lsn(), $1::pg_lsn)", start))
            )
            if kind == "named":
                times["repeats of names"].append(await _commit(stores[kind], events, random))
    for kind in times:
        print(f"{kind}: {median(times[kind]):.1f} ms a commit of {_BATCH_EVENTS}")
    for kind in _KINDS:
        added = await owners[kind].fetchval(_KEY_BYTES) - before[kind]
        wal_bytes, key_bytes = (number / _ROUNDS / _BATCH_EVENTS for number in (sum(wal[kind]), added))
        print(
            f"{kind}: {wal_bytes:.0f} B of WAL an event, key of {before[kind] >> 20} MiB, {key_bytes:.0f} B more each"
        )
    ratios = sorted(named / dated for named, dated in zip(times["named"], times["dated"], strict=True))
    middle = f"{ratios[_ROUNDS // 4]:.2f} to {ratios[_ROUNDS * 3 // 4]:.2f}"
    print(f"named to dated: {median(ratios):.2f} (half of the ratios are {middle})")
    for store in stores.values():
        store.close()


async def main(events: int) -> None:
    """Fill, measure, and drop everything."""
    backing = LocalServices(is_durable=True)
    templates = Templates(backing)
    stacks = {kind: Stack(backing, templates, count()) for kind in _KINDS}
    try:
        for kind, stack in stacks.items():
            started = time.perf_counter()
            await _fill(stack, kind, events)
            print(f"{kind}: {events} events in {time.perf_counter() - started:.0f} s", flush=True)
        await _measure(stacks)
    finally:
        for stack in stacks.values():
            await stack.close()
        templates.close()
        backing.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else _EVENTS))
