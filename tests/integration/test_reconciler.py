"""The relay's reconciler: repeats what was lost after its confirm, and nothing else."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.integration.test_pipeline import QUICK, WORKERS, projected, send
from tests.polling import until
from tests.registry import Registered, register_system
from tests.services import Services, running
from tests.stack import Stack


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[Services]:
    """Everything that an event passes through."""
    async with running(stack, "gateway", *WORKERS, settings=QUICK) as services:
        yield services


async def metric(services: Services, service: str, name: str) -> float:
    """The value of a metric as its whole line begins, labels and all; 0 if it is not there yet."""
    async with httpx.AsyncClient(timeout=5) as client:
        lines = (await client.get(f"{services.url(service)}/metrics")).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


async def test_a_batch_that_cannot_be_applied_is_not_sent_again_and_again(
    services: Services, stack: Stack, sender: Registered
) -> None:
    read, write = await stack.read(), await stack.write()
    await read.execute(
        "alter table read.tracking_events_read_model add constraint no_poison check (event_name <> 'poison')"
    )
    await send(services, sender, range(1), eventName="poison")
    await send(services, sender, range(1, 21))
    await until(lambda: write.fetchval("select count(*) from write.dead_letters"), lambda number: number == 1)
    began = await write.fetchval("select clock_timestamp()")

    # several times as long as a lost batch waits to be sent again
    await until(
        lambda: write.fetchval("select clock_timestamp() - $1 > interval '4 seconds'", began), lambda is_over: is_over
    )

    assert await metric(services, "relay", 'tracking_batches_republished_total{reason="unapplied"}') == 0
    assert await write.fetchval("select times from write.dead_letters") == 1
    assert await projected(stack) == 20
