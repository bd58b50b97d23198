"""The Python SDKs of Segment and RudderStack on a network that loses responses; `make test-sdks` runs all SDKs."""

import pytest

from tests.integration.test_pipeline import QUICK
from tests.sdks.run import SERVICES, events, querying, run_sdk, statistics, until_visible
from tests.sdks.sdks import PYTHON, Sdk, send
from tests.support.registry import register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

# three batches of a hundred
NUMBER = 240


@pytest.mark.parametrize("sdk", PYTHON, ids=lambda sdk: sdk.name)
async def test_each_message_is_there_once_although_every_other_answer_is_lost(sdk: Sdk, stack: Stack) -> None:
    async with run_services(stack, *SERVICES, settings=QUICK) as services:
        row = await run_sdk(sdk, services, stack, NUMBER, drop_every=2)

    assert row.is_good, row
    assert row.requests > 3


@pytest.mark.parametrize("sdk", PYTHON, ids=lambda sdk: sdk.name)
async def test_a_call_that_is_made_twice_with_an_id_of_its_own_is_one_event(sdk: Sdk, stack: Stack) -> None:
    """Each call has its own timestamp; the id is a name, so it decides alone."""
    order = {"kind": "track", "userId": "u-1", "event": "Order Completed", "message_id": "order-1"}
    system = await register_system(stack, sdk.name)
    async with run_services(stack, *SERVICES, settings=QUICK) as services:
        for number in range(2):
            sent = await send(sdk, services.url("gateway"), system.api_key, [order | {"number": number}])
            assert sent.message_ids == ["order-1"]
        await until_visible(stack, system.system_id, 1)
        async with querying(services, stack) as query:
            found = await events(query, system.system_id)
            counted = await statistics(query, system.system_id)

    assert [event["messageId"] for event in found] == ["order-1"]
    assert counted["totalEvents"] == 1
