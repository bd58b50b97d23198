"""Reference data is replicated again by itself if the read database loses it."""

from contextlib import AsyncExitStack

import pytest

from services.relay.reference_data import ReferenceDataReplicator
from tests.support.registry import register_system
from tests.support.stack import Stack
from tracking.infra import postgres
from tracking.infra.postgres import Pool


async def open_test_pool(url: str, resources: AsyncExitStack) -> Pool:
    pool = await postgres.open_pool(url, service="relay", connect_timeout_s=5, query_timeout_s=5, size=1)
    resources.push_async_callback(postgres.close_pool, pool)
    return pool


@pytest.mark.parametrize(("all_every_s", "comes_back"), [(0.0, True), (3_600.0, False)])
async def test_a_lost_system_comes_back_with_the_next_copy_of_everything(
    stack: Stack, all_every_s: float, comes_back: bool
) -> None:
    registered = await register_system(stack)
    owner = await stack.write()
    await owner.execute("update write.partner_systems set updated_at = now() - interval '1 day'")
    async with AsyncExitStack() as resources:
        write = await open_test_pool(stack.write_url("relay"), resources)
        read = await open_test_pool(stack.read_url("relay"), resources)
        copy = ReferenceDataReplicator(write, read, all_every_s=all_every_s)
        reader = await stack.read()
        await copy.replicate()
        assert await reader.fetchval("select id from read.partner_systems") == registered.system_id

        await reader.execute("delete from read.partner_systems")
        await copy.replicate()

        assert bool(await reader.fetchval("select count(*) from read.partner_systems")) == comes_back
