"""`make demo` sends events with the Python client to a whole system and proves that they arrived."""

import asyncio
import os
import subprocess
import sys

import pytest

from tests.integration.test_pipeline import QUICK
from tests.sdks.lossy_proxy import run_lossy_proxy
from tests.support.polling import PATIENCE_S
from tests.support.service_processes import ROOT, ServiceProcesses, run_services
from tests.support.stack import Stack

EVERYTHING = ("gateway", "admin", "relay", "projector", "statistics", "query")


async def demo(services: ServiceProcesses, gateway_url: str, *arguments: str) -> tuple[int | None, str]:
    """Its exit status and what it wrote."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRACKING_")}
    addresses = {
        "TRACKING_GATEWAY_URL": gateway_url,
        "TRACKING_ADMIN_URL": services.url("admin"),
        "TRACKING_QUERY_URL": services.url("query"),
        "TRACKING_ADMIN_TOKEN": services.admin_token,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.demo", "--seed", "1", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=environment | addresses,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    return process.returncode, output.decode()


@pytest.mark.parametrize("drop_every", [None, 3])
async def test_the_demo_counts_and_lists_everything_it_sent_once(stack: Stack, drop_every: int | None) -> None:
    async with run_services(stack, *EVERYTHING, settings=QUICK) as services:
        if drop_every is None:
            status, output = await demo(services, services.url("gateway"), "--events", "1000")
        else:
            async with run_lossy_proxy(services.url("gateway"), drop_every) as proxy:
                status, output = await demo(services, f"http://127.0.0.1:{proxy.port}", "--events", "1000")
            assert proxy.dropped >= 1
            assert f"{proxy.dropped} retries" in output

    assert status == 0, output
    assert "all 1000 events, each exactly once" in output
    assert "sending: 1025 of 1025" in output
