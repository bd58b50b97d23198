"""The relay's reconciler republishes messages that were lost after their confirm, and no others."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import ValidationError

from services.gateway.settings import GatewaySettings
from tests.integration.test_pipeline import QUICK, WORKERS, both, projected, reach, send
from tests.support.dead_letters import POISON, depths, metric, purge, reach_states
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack
from tracking.contracts import topology
from tracking.contracts.commit_deadline import COMMIT_HORIZON, MAX_COMMIT_DEADLINE_S
from tracking.domain.ids import make_lowest_id

INSERT_BATCH = (
    "insert into write.event_batches (id, created_at, partner_system_ids, event_ids) values ($1, now(), $2, $3)"
)
REPEATED = 'tracking_batches_republished_total{reason="unapplied"}'
# of QUICK: how long a batch may be missing before it counts as lost; it is repeated after twice that again
LOST_AFTER_S = float(QUICK["TRACKING_UNAPPLIED_AFTER_S"])


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


async def let_pass(stack: Stack, seconds: float) -> None:
    """Wait until the write database's clock has moved on so far."""
    owner = await stack.write()
    began = await owner.fetchval("select clock_timestamp()")
    passed = "select extract(epoch from clock_timestamp() - $1)::float8"
    await until(lambda: owner.fetchval(passed, began), lambda so_far: so_far > seconds)


async def reach_published(stack: Stack, number: int) -> None:
    owner = await stack.write()
    count = "select count(*) from write.event_batches where published_at is not null"
    await until(lambda: owner.fetchval(count), lambda found: found == number)


async def test_a_batch_that_cannot_be_applied_is_not_sent_again_and_again(stack: Stack, sender: Registered) -> None:
    await (await stack.read()).execute(POISON)
    # on a busy machine a worker may have a batch in its hands for longer than LOST_AFTER_S
    patient = {**QUICK, "TRACKING_UNAPPLIED_AFTER_S": str(PATIENCE_S)}
    async with run_services(stack, "gateway", *WORKERS, settings=patient) as services:
        await send(services, sender, range(1), eventName="poison")
        await send(services, sender, range(1, 21))
        await reach_states(stack, ("open", 1))
        await until(lambda: both(stack), lambda counts: counts == (20, 21))
        await services.stop("relay")

        async with run_services(stack, "relay", settings=QUICK) as relay:
            await let_pass(stack, 8 * LOST_AFTER_S)

            assert await metric(relay, "relay", REPEATED) == 0
        assert await projected(stack) == 20
        await reach_states(stack, ("open", 1))


async def test_what_was_purged_after_its_confirm_comes_back_within_a_minute_by_default(
    stack: Stack, sender: Registered
) -> None:
    async with run_services(stack, "gateway", *WORKERS) as services:
        await services.stop("projector", "statistics")
        for start in range(0, 100, 10):
            await send(services, sender, range(start, start + 10))
        await reach_published(stack, 10)
        for consumer in topology.CONSUMERS:
            await purge(stack, topology.get_queue_names(consumer).work)
        assert await depths(stack) == [0, 0, 0, 0]
        await services.start("projector", "statistics")

        read = await stack.read()
        count = "select count(*) from read.tracking_events_read_model"
        await until(lambda: read.fetchval(count), lambda number: number == 100, deadline_s=60)
        await reach(stack, 100)

        assert await metric(services, "relay", REPEATED) == 20


async def test_a_backlog_of_stopped_workers_gets_no_copies(stack: Stack, sender: Registered) -> None:
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        await services.stop("projector", "statistics")
        async with http_client(base_url=services.url("gateway"), timeout=20) as client:
            for number in range(300):
                event = {"eventName": "name", "userId": "user", "eventId": f"e{number}"}
                answer = await client.post("/api/events/ingest", json=event, headers={"X-Api-Key": sender.api_key})
                assert answer.status_code == 202
        await reach_published(stack, 300)

        await let_pass(stack, 8 * LOST_AFTER_S)

        assert await depths(stack) == [300, 0, 300, 0]
        assert await metric(services, "relay", REPEATED) == 0
        for consumer in topology.CONSUMERS:
            assert await metric(services, "relay", f'tracking_batches_unapplied{{consumer="{consumer}"}}') == 300
            assert await metric(services, "relay", f'tracking_oldest_unapplied_seconds{{consumer="{consumer}"}}') > 1
        await services.start("projector", "statistics")
        await reach(stack, 300)
        lag = 'tracking_oldest_unapplied_seconds{consumer="projector"}'
        await until(lambda: metric(services, "relay", lag), lambda seconds: seconds == 0)


async def test_what_is_not_published_is_counted_with_its_age(stack: Stack, sender: Registered) -> None:
    settings = {**QUICK, "TRACKING_UNPUBLISHED_AFTER_S": "60"}
    async with run_services(stack, "gateway", *WORKERS, settings=settings) as services:
        await send(services, sender, range(1))
        await send(services, sender, range(1, 2))
        await reach(stack, 2)
        await reach_published(stack, 2)

        await (await stack.write()).execute("update write.event_batches set published_at = null")

        await until(lambda: metric(services, "relay", "tracking_batches_unpublished"), lambda number: number == 2)
        assert await metric(services, "relay", "tracking_oldest_unpublished_seconds") > 0


async def test_a_batch_whose_events_retention_has_dropped_holds_up_no_other(stack: Stack, sender: Registered) -> None:
    owner = await stack.write()
    await owner.execute(
        INSERT_BATCH,
        make_lowest_id(datetime.now(UTC) - timedelta(minutes=2)),
        [sender.system_id],
        [uuid4()],
    )
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        await send(services, sender, range(1, 21))
        await reach(stack, 20)

        await reach_states(stack, ("open", 1), ("open", 1))  # one for each consumer

        assert "its events are gone" in services.log("relay")
        await reach_published(stack, 2)


def test_a_gateway_is_not_given_longer_to_commit_than_the_relay_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WRITE_DATABASE", "REDIS", "RABBITMQ"):
        monkeypatch.setenv(f"TRACKING_{name}_URL", "unused")
    monkeypatch.setenv("TRACKING_COMMIT_DEADLINE_S", str(MAX_COMMIT_DEADLINE_S))
    longest = GatewaySettings().commit_deadline_s

    monkeypatch.setenv("TRACKING_COMMIT_DEADLINE_S", str(MAX_COMMIT_DEADLINE_S + 1))

    assert COMMIT_HORIZON.total_seconds() > longest
    with pytest.raises(ValidationError, match="commit_deadline_s"):
        GatewaySettings()


async def test_a_batch_committed_as_late_as_a_gateway_may_is_found(stack: Stack, sender: Registered) -> None:
    now = datetime.now(UTC)
    applied, late = (make_lowest_id(now - timedelta(seconds=seconds)) for seconds in (50, 55))
    write, read = await stack.write(), await stack.read()
    for consumer in topology.CONSUMERS:
        await read.execute("insert into read.applied_batches (batch_id, consumer) values ($1, $2)", applied, consumer)
    await write.execute(INSERT_BATCH, applied, [sender.system_id], [uuid4()])
    async with run_services(stack, "relay", settings=QUICK) as relay:
        observed = "select count(*) from read.consumer_progress where pending_batches = 0"
        await until(lambda: read.fetchval(observed), lambda consumers: consumers == 2)

        await write.execute(INSERT_BATCH, late, [sender.system_id], [uuid4()])

        async def count_unapplied() -> list[float]:
            names = [f'tracking_batches_unapplied{{consumer="{consumer}"}}' for consumer in topology.CONSUMERS]
            return [await metric(relay, "relay", name) for name in names]

        await until(count_unapplied, lambda numbers: numbers == [1, 1])
