"""No batch is too large to be sent: it is divided by its bytes, and one that cannot be sent holds up no other."""

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from random import getrandbits
from uuid import UUID, uuid4

import pytest

from services.statistics.aggregate import aggregate
from tests.integration.test_pipeline import QUICK, WORKERS, both, reach, send
from tests.support.backing_services import BackingServices, LocalServices
from tests.support.broker_tools import run_rabbitmqctl
from tests.support.dead_letters import depths, done, listed, metric, publish, reach_states
from tests.support.events import an_event
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.rebuild import assert_counted, rebuild
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack
from tracking.contracts import events_tracked, topology
from tracking.contracts.events_tracked import BatchPart, SystemContext
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import postgres
from tracking.worker.inbox import Inbox

RABBITMQ_4_MAX_BYTES = 16 * 1024 * 1024
LimitMessages = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
def limit_messages(backing: BackingServices) -> LimitMessages:
    """Lower the size of a message that the server takes; channels that are open keep their limit."""
    if not isinstance(backing, LocalServices):
        pytest.skip("the limit of the server is changed with its command line tool")

    @contextmanager
    def limited(max_bytes: int) -> Iterator[None]:
        change = "application:set_env(rabbit, max_message_size, {}).".format
        run_rabbitmqctl(backing.rabbitmq, "eval", change(max_bytes))
        try:
            yield
        finally:
            run_rabbitmqctl(backing.rabbitmq, "eval", change(RABBITMQ_4_MAX_BYTES))

    return limited


def large_event(system_id: UUID, context_bytes: int) -> TrackingEvent:
    """An event whose context compression makes no smaller than three quarters."""
    at = datetime.now(UTC)
    noise = base64.b64encode(os.urandom(context_bytes * 3 // 4)).decode()
    return an_event(
        system_id,
        make_uuid7(to_unix_ms(at), getrandbits(74)),
        event_timestamp=at,
        received_at=at,
        context=json.dumps({"noise": noise}).encode(),
    )


async def store(stack: Stack, events: Sequence[TrackingEvent]) -> UUID:
    """Store the events as one batch that is not published, as a gateway of the previous version did; return its id."""
    write = await stack.write()
    await postgres.prepare_connection(write)
    at = datetime.now(UTC)
    batch_id = make_uuid7(to_unix_ms(at), getrandbits(74))
    async with write.transaction():
        await write.copy_records_to_table(
            "tracking_events", schema_name="write", columns=TrackingEvent._fields, records=events
        )
        await write.execute(
            "insert into write.event_batches (id, created_at, partner_system_ids, event_ids) values ($1, $2, $3, $4)",
            batch_id,
            at,
            [event.partner_system_id for event in events],
            [event.id for event in events],
        )
    return batch_id


async def reach_published(stack: Stack) -> None:
    """Wait until every batch is published, or given up."""
    write = await stack.write()
    count = "select count(*) from write.event_batches where published_at is null"
    await until(lambda: write.fetchval(count), lambda left: left == 0)


async def retry_all(stack: Stack) -> None:
    """Decide that every dead letter is to be sent again."""
    for consumer in topology.CONSUMERS:
        await done(stack, "retry", "--all", "--consumer", consumer)


async def test_events_are_committed_in_batches_of_limited_size_wherever_their_bytes_are(
    stack: Stack, sender: Registered
) -> None:
    noise = "x" * 32_000
    events = [{"eventName": "e", "userId": str(n), "context": {"n": n, "noise": noise}} for n in range(140)]
    async with run_services(stack, "gateway") as services, http_client(base_url=services.url("gateway")) as client:
        body = {"apiKey": sender.api_key, "events": events}
        answer = await client.post("/api/events/batch", json=body, timeout=PATIENCE_S)
        assert answer.status_code == 202, answer.text

    write = await stack.write()
    sizes = await write.fetch("""
        select count(*) as events, sum(octet_length(event_properties::text || context::text)) as size_bytes
          from write.event_batches b
         cross join unnest(b.event_ids) as claimed (id)
          join write.tracking_events e on e.id = claimed.id
         group by b.id
        """)
    assert sum(row["events"] for row in sizes) == 140
    assert max(row["size_bytes"] for row in sizes) <= 256 * 1024


async def test_a_stored_batch_of_more_bytes_than_rabbitmq_4_takes_is_applied_in_parts_once(
    stack: Stack, sender: Registered
) -> None:
    batch_id = await store(stack, [large_event(sender.system_id, 32_000) for _ in range(800)])
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        await send(services, sender, range(20))
        await reach(stack, 820)
        await reach_published(stack)
        read, write = await stack.read(), await stack.write()
        inbox = "select consumer from read.applied_batches where batch_id = $1 and applied_positions is null"
        assert len(await read.fetch(inbox, batch_id)) == 2

        await write.execute("update write.event_batches set published_at = null")
        await reach_published(stack)
        await until(lambda: depths(stack), lambda found: found == [0, 0, 0, 0])
        await send(services, sender, range(20, 30))

        await reach(stack, 830)
        await assert_counted(stack)
        assert await listed(stack) == []


async def test_a_server_that_takes_only_small_messages_gets_parts_that_it_takes(
    stack: Stack, sender: Registered, limit_messages: LimitMessages
) -> None:
    await store(stack, [large_event(sender.system_id, 8_000) for _ in range(40)])
    with limit_messages(30_000):
        async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
            await send(services, sender, range(20))

            await reach(stack, 60)

            await reach_published(stack)
            assert await listed(stack) == []


async def test_an_event_that_the_server_does_not_take_is_a_dead_letter_and_holds_up_no_other(
    stack: Stack, sender: Registered, limit_messages: LimitMessages
) -> None:
    neighbours = [large_event(sender.system_id, 3_000) for _ in range(9)]
    batch_id = await store(stack, [*neighbours[:4], large_event(sender.system_id, 60_000), *neighbours[4:]])
    with limit_messages(30_000):
        async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
            await send(services, sender, range(20))

            await reach(stack, 29)
            await reach_states(stack, ("open", 1), ("open", 1))

            letters = await listed(stack)
            assert {letter["consumer"] for letter in letters} == set(topology.CONSUMERS)
            assert {letter["batchId"] for letter in letters} == {str(batch_id)}
            assert {(letter["reason"], letter["eventCount"]) for letter in letters} == {("not_sendable", 1)}
            assert all("the broker takes 30000" in letter["error"] for letter in letters)
            given_up = 'tracking_dead_letters_total{consumer="statistics",reason="not_sendable"}'
            assert await metric(services, "relay", given_up) == 1
            await retry_all(stack)

            async def logged() -> int:
                return services.log("relay").count("cannot be sent again")

            await until(logged, lambda times: times == 2)
            await reach_states(stack, ("open", 1), ("open", 1))
    async with run_services(stack, *WORKERS, settings=QUICK):
        await retry_all(stack)

        await reach(stack, 30)
        await reach_states(stack, ("applied", 1), ("applied", 1))
    await assert_counted(stack)


async def test_a_batch_of_which_no_message_can_be_made_holds_up_no_other(stack: Stack, sender: Registered) -> None:
    unknown_system = uuid4()
    await store(stack, [large_event(unknown_system, 100), large_event(sender.system_id, 100)])
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        await send(services, sender, range(20))

        await reach(stack, 21)
        await reach_states(stack, ("open", 1), ("open", 1))

        assert all(f"{unknown_system} is not registered" in letter["error"] for letter in await listed(stack))
        await reach_published(stack)


@pytest.fixture
async def inbox(stack: Stack) -> AsyncIterator[Inbox[events_tracked.EventsTracked]]:
    """The inbox of statistics, which nothing but itself keeps from counting an event twice."""
    pool = await postgres.open_pool(
        stack.read_url("statistics"), service="test", connect_timeout_s=PATIENCE_S, query_timeout_s=PATIENCE_S
    )
    yield Inbox("statistics", pool, aggregate)
    await postgres.close_pool(pool)


class StoredBatch:
    """A batch of which messages are made."""

    def __init__(self, number: int, events: int) -> None:
        self.id = make_uuid7(to_unix_ms(datetime.now(UTC)), number)
        self._events = [an_event(UUID(int=1), UUID(int=n)) for n in range(events)]
        self._system = SystemContext(UUID(int=1), "Website", UUID(int=2), "Acme")

    def whole(self) -> events_tracked.EventsTracked:
        return self._decoded(self._events, None)

    def part(self, first: int, past: int, without: frozenset[int] = frozenset()) -> events_tracked.EventsTracked:
        """Return the part from `first` to before `past`; the events `without` are no longer stored."""
        positions = [n for n in range(first, past) if n not in without]
        part = BatchPart(first, past, len(self._events), positions)
        return self._decoded([self._events[n] for n in positions], part)

    def _decoded(self, events: Sequence[TrackingEvent], part: BatchPart | None) -> events_tracked.EventsTracked:
        at = datetime.now(UTC)
        return events_tracked.decode(events_tracked.encode(self.id, at, [self._system], events, part))


async def reads(stack: Stack, batch: StoredBatch) -> tuple[int, bool]:
    """Return how many events are counted, and whether the batch is in the inbox as a whole."""
    read = await stack.read()
    is_whole = await read.fetchval(
        "select applied_positions is null from read.applied_batches where batch_id = $1", batch.id
    )
    return int(await read.fetchval("select coalesce(sum(total), 0) from read.event_counts_hourly")), is_whole


async def test_parts_that_overlap_are_applied_once(stack: Stack, inbox: Inbox[events_tracked.EventsTracked]) -> None:
    batch = StoredBatch(1, 100)
    await inbox.apply([batch.part(0, 40)])
    assert await reads(stack, batch) == (40, False)
    await inbox.apply([batch.part(0, 40), batch.part(20, 60), batch.part(50, 60)])
    assert await reads(stack, batch) == (60, False)
    await inbox.apply([batch.part(70, 100)])
    assert await reads(stack, batch) == (90, False)
    await inbox.apply([batch.part(60, 70, without=frozenset({61, 69}))])
    assert await reads(stack, batch) == (98, True)

    await inbox.apply([batch.part(0, 40), batch.part(10, 90), batch.whole()])

    assert await reads(stack, batch) == (98, True)


async def test_a_whole_batch_after_a_part_of_it_adds_the_rest_and_a_part_after_the_whole_nothing(
    stack: Stack, inbox: Inbox[events_tracked.EventsTracked]
) -> None:
    batch, other = StoredBatch(1, 100), StoredBatch(2, 7)
    await inbox.apply([batch.part(30, 50)])

    await inbox.apply([other.whole(), batch.whole(), batch.whole(), batch.part(0, 70)])
    assert await reads(stack, batch) == (107, True)

    await inbox.apply([batch.part(0, 50), other.part(0, 3)])
    assert await reads(stack, batch) == (107, True)


async def test_workers_that_apply_parts_of_the_same_batches_at_once_count_each_event_once(
    stack: Stack, inbox: Inbox[events_tracked.EventsTracked]
) -> None:
    batches = [StoredBatch(number, 60) for number in range(8)]

    async def apply(group: Sequence[events_tracked.EventsTracked]) -> None:
        while True:  # as the consumer does when PostgreSQL ends a deadlock
            try:
                return await inbox.apply(group)
            except postgres.TRANSIENT_ERRORS:
                continue

    groups = [
        [batch.part(0, 30) for batch in batches],
        [batch.part(20, 60) for batch in reversed(batches)],
        [batch.whole() for batch in batches],
        [batch.whole() for batch in reversed(batches)],
        [batch.part(10, 50) for batch in batches],
    ]
    await asyncio.gather(*(apply(group) for group in groups))

    for batch in batches:
        assert await reads(stack, batch) == (480, True)


async def test_a_rebuild_completes_a_batch_of_which_only_parts_were_applied(stack: Stack, sender: Registered) -> None:
    batch_id = await store(stack, [large_event(sender.system_id, 3_000) for _ in range(50)])
    write = await stack.write()
    await postgres.prepare_connection(write)
    rows = await write.fetch("select * from write.tracking_events")
    by_id = {row["id"]: TrackingEvent(**dict(row)) for row in rows}
    ids = await write.fetchval("select event_ids from write.event_batches")
    system = SystemContext(sender.system_id, "Website", sender.partner_id, "Partner of Website")
    bodies = {
        name: events_tracked.encode(
            batch_id,
            datetime.now(UTC),
            [system],
            [by_id[id_] for id_ in ids[:past]],
            BatchPart(0, past, 50, range(past)),
        )
        for name, past in (("projector", 30), ("statistics", 10))
    }
    patient = {**QUICK, "TRACKING_UNPUBLISHED_AFTER_S": str(PATIENCE_S), "TRACKING_UNAPPLIED_AFTER_S": str(PATIENCE_S)}
    async with run_services(stack, *WORKERS, settings=patient):
        for name, body in bodies.items():
            await publish(stack, body, queue=topology.get_queue_names(name).work)
        await until(lambda: both(stack), lambda counts: counts == (30, 10))

        await rebuild(stack)
        assert await both(stack) == (50, 50)
        await write.execute("update write.event_batches set published_at = now()")
        for name, body in bodies.items():
            await publish(stack, body, queue=topology.get_queue_names(name).work)
        await until(lambda: depths(stack), lambda found: found == [0, 0, 0, 0])
    await assert_counted(stack)
    assert await both(stack) == (50, 50)


async def test_a_group_of_a_consumer_is_limited_in_bytes(stack: Stack, sender: Registered) -> None:
    for _ in range(6):
        await store(stack, [large_event(sender.system_id, 8_000) for _ in range(10)])
    read, owner = await stack.read(), await stack.read()
    async with run_services(stack, "relay", "projector", settings={**QUICK, "TRACKING_GROUP_BYTES": "100000"}):
        async with owner.transaction():
            await owner.execute("lock table read.applied_batches in access exclusive mode")
            await reach_published(stack)
            await until(lambda: depths(stack), lambda found: found[0] == 0)
        groups = "select count(*), count(distinct applied_at) from read.applied_batches"
        found = await until(lambda: read.fetchrow(groups), lambda row: row is not None and row[0] == 6)

        assert found is not None
        assert found[1] >= 3  # two batches of 80 000 bytes reach the limit
