"""The Python SDKs of Segment and RudderStack on a network that loses responses; `make test-sdks` runs all SDKs."""

import pytest

from tests.integration.test_pipeline import QUICK
from tests.sdks.run import SERVICES, run_sdk
from tests.sdks.sdks import PYTHON, Sdk
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
