"""Sends SIGTERM to one process after the other under load. Each must log it, drain, and exit with 0 in time."""

import asyncio
import signal
import time

import httpx

from tests.faults.edge import HEALTH_INTERVAL_S
from tests.faults.environment import OTHERS, FaultEnvironment
from tracking.infra.settings import ProcessSettings

DRAIN_DELAY_S = float(ProcessSettings.model_fields["drain_delay_s"].default)
_GRACE_S = float(ProcessSettings.model_fields["shutdown_grace_s"].default)
_GATEWAYS = ("gateway", "gateway-2")


async def restart_in_turn(site: FaultEnvironment) -> None:
    """Restart everything, the gateways in turn and twice. AssertionError when a process does not end as it should."""
    assert DRAIN_DELAY_S > HEALTH_INTERVAL_S, "an edge would still choose a gateway that has stopped listening"
    for name in (*_GATEWAYS, *OTHERS, *_GATEWAYS):
        # longer than the edge takes to see that the one before is back
        await site.pause(0.6, 1.2)
        services = site.services(name)
        site.record_break()
        async with httpx.AsyncClient(base_url=services.url(name), timeout=5) as client:
            # connected before: half a second is not much on a busy machine
            await client.get("/health/ready")
            began = time.monotonic()
            services.signal(name, signal.SIGTERM)
            assert await _says_so(client), f"{name} ended without turning unready"
        await services.stop(name)
        assert time.monotonic() - began < DRAIN_DELAY_S + _GRACE_S, f"{name} took too long to end"
        site.record_repair()
        await services.start(name)


async def _says_so(client: httpx.AsyncClient) -> bool:
    """Whether the process answers that it is stopping before it stops answering."""
    while True:
        try:
            response = await client.get("/health/ready")
        except httpx.TransportError:
            return False
        if response.status_code == 503 and response.json()["status"] == "stopping":
            return True
        await asyncio.sleep(0.01)
