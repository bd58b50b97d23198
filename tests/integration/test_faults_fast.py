"""A short part of `make test-faults`: a component is killed under load, and promises are compared with the facts."""

import pytest

from tests.faults.run import run_fault
from tests.faults.scenarios import FAULTS, Fault
from tests.integration.test_pipeline import QUICK
from tests.support.backing_services import BackingServices, LocalServices
from tests.support.stack import Stack

SEED = 1
CHOSEN = ("gateway-kill", "postgres-kill", "connections-closed", "redis-kill")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name in CHOSEN], ids=lambda fault: fault.name)
async def test_nothing_is_lost_and_nothing_counted_twice(fault: Fault, backing: BackingServices, stack: Stack) -> None:
    if not isinstance(backing, LocalServices):
        pytest.skip("kills servers, so they have to be our own: TRACKING_TEST_BACKING=local")

    row = await run_fault(fault, backing, stack, SEED, pace=0.25, settings=QUICK)

    assert row.is_good, row
    assert row.acknowledged > 200
