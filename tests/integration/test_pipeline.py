"""Events reach the read model exactly once, although processes are stopped, queues purged, or messages sent twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.rebuild import assert_counted
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.contracts import topology
from tracking.infra import rabbitmq

QUICK = {"TRACKING_TICK_S": "0.1", "TRACKING_UNPUBLISHED_AFTER_S": "0.3", "TRACKING_UNAPPLIED_AFTER_S": "0.5"}
WORKERS = ("relay", "projector", "statistics")


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """Everything that an event passes through."""
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        yield services


async def send(services: ServiceProcesses, sender: Registered, numbers: range, **changes: Any) -> None:
    """One batch of events named after their number modulo 3, ids and times their own."""
    events = [
        {
            "eventName": f"name_{n % 3}",
            "eventTimestamp": f"2026-{n % 12 + 1:02d}-{n % 28 + 1:02d}T{n % 24:02d}:30:00Z",
            "userId": f"user_{n % 10}",
            "eventProperties": {"n": n},
            "eventId": f"e{n}",
            "eventType": "track" if n % 5 else "identify",
            "context": {"library": {"name": f"sdk {n % 2}"}} if n % 3 else None,
            **changes,
        }
        for n in numbers
    ]
    async with http_client(base_url=services.url("gateway"), timeout=20) as client:
        response = await client.post("/api/events/batch", json={"apiKey": sender.api_key, "events": events})
    assert response.status_code == 202, response.text
    assert response.json()["refused"] == 0


async def projected(stack: Stack) -> int:
    return int(await stack.read_value("select count(*) from read.tracking_events_read_model"))


async def counted(stack: Stack) -> int:
    return int(await stack.read_value("select coalesce(sum(total), 0) from read.event_counts_hourly"))


async def both(stack: Stack) -> tuple[int, int]:
    return await projected(stack), await counted(stack)


async def reach(stack: Stack, number: int) -> None:
    """Wait until both workers have applied `number` events, and never more."""
    await until(lambda: both(stack), lambda counts: counts >= (number, number) and min(counts) >= number)
    assert await both(stack) == (number, number)


async def test_every_event_is_projected_as_it_was_stored(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await send(services, sender, range(300))

    await reach(stack, 300)

    write, read = await stack.write(), await stack.read()
    columns = """id, partner_system_id, event_name, event_timestamp, original_timestamp, received_at, user_id,
        anonymous_id, message_id, event_properties::text, schema_version, is_valid, validation_errors::text,
        clock_adjusted, correlation_id, event_type, context::text, is_bot"""
    kept = await write.fetch(f"select {columns} from write.tracking_events order by id")  # noqa: S608
    seen = await read.fetch(f"select {columns} from read.tracking_events_read_model order by id")  # noqa: S608
    assert [tuple(row) for row in seen] == [tuple(row) for row in kept]
    names = await read.fetchrow(
        "select distinct partner_id, partner_name, system_name from read.tracking_events_read_model"
    )
    assert names is not None
    assert tuple(names) == (sender.partner_id, "Partner of Website", "Website")


async def test_the_rollup_is_a_recount_of_the_rows(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await send(services, sender, range(200))
    await send(services, sender, range(200, 260), schemaVersion=None)

    await reach(stack, 260)

    await assert_counted(stack)


async def test_a_batch_published_twice_is_applied_once(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await send(services, sender, range(50))
    await reach(stack, 50)
    write = await stack.write()

    await write.execute("update write.event_batches set published_at = null")

    async def republished() -> int:
        return int(await write.fetchval("select count(*) from write.event_batches where published_at is null"))

    await until(republished, lambda left: left == 0)
    await send(services, sender, range(50, 60))
    await reach(stack, 60)


async def test_events_that_come_while_the_workers_are_away_are_applied_later(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await services.stop(*WORKERS)

    await send(services, sender, range(500))
    await services.start(*WORKERS)

    await reach(stack, 500)


async def test_a_worker_killed_again_and_again_applies_everything_once(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    async def keep_sending() -> None:
        for start in range(0, 1000, 50):
            await send(services, sender, range(start, start + 50))

    sending = asyncio.create_task(keep_sending())
    for _ in range(3):
        await services.kill("projector", "statistics")
        await services.start("projector", "statistics")
    await sending

    await reach(stack, 1000)
    await assert_counted(stack)


async def test_a_purged_queue_heals_by_itself(services: ServiceProcesses, stack: Stack, sender: Registered) -> None:
    await services.stop("projector", "statistics")
    await send(services, sender, range(100))
    write = await stack.write()
    await until(
        lambda: write.fetchval("select count(*) from write.event_batches where published_at is null"),
        lambda unpublished: unpublished == 0,
    )
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        for consumer in topology.CONSUMERS:
            queue = await channel.get_queue(topology.get_queue_names(consumer).work)
            await queue.purge()

    await services.start("projector", "statistics")

    await reach(stack, 100)


async def test_deleted_queues_come_back_and_nothing_is_lost(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await send(services, sender, range(50))
    await reach(stack, 50)
    connection = await rabbitmq.connect(stack.rabbitmq_url, name="test", timeout_s=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        for consumer in topology.CONSUMERS:
            await channel.queue_delete(topology.get_queue_names(consumer).work)

    await send(services, sender, range(50, 100))

    await reach(stack, 100)


async def test_progress_says_how_far_each_worker_is(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read = await stack.read()
    await services.stop("projector")
    await send(services, sender, range(10))

    async def pending() -> dict[str, int]:
        rows = await read.fetch("select consumer, pending_batches from read.consumer_progress")
        return {row["consumer"]: row["pending_batches"] for row in rows}

    await until(pending, lambda known: known == {"projector": 1, "statistics": 0})
    await services.start("projector")
    await until(pending, lambda known: known == {"projector": 0, "statistics": 0})


async def test_the_relay_copies_systems_to_the_read_database(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read = await stack.read()
    other = await register_system(stack, "App", sender.partner_id)

    async def systems() -> set[tuple[UUID, str]]:
        return {(row["id"], row["name"]) for row in await read.fetch("select id, name from read.partner_systems")}

    await until(systems, lambda known: known == {(sender.system_id, "Website"), (other.system_id, "App")})
