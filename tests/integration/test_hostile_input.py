"""Hostile input at every public route: never a 5xx, never a hang, nothing kept, and a normal event still passes.

What was accepted then reaches the read model once: after each suite a rebuild finds nothing to correct.
"""

import pytest

from tests.hostile import admin, gateway, query, sdk
from tests.hostile.case import Case, faults_of, resident_bytes
from tests.hostile.framing import Route
from tests.support import raw_http
from tests.support.admin_api import register_one_of_each
from tests.support.read_model import add_system, add_token
from tests.support.rebuild import QUICK, WORKERS, assert_nothing_to_correct
from tests.support.registry import register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

# short, as some of the cases never send what they promise
DEADLINES = {"TRACKING_HEADER_TIMEOUT_S": "4", "TRACKING_BODY_TIMEOUT_S": "4", **QUICK}
LEAST_CASES = 200
LEAST_STORED = 50
SMALL_BYTES = 16 * 1024
MOST_RESIDENT_BYTES = 512 * 1024 * 1024
MOST_KEPT_BYTES = 16 * 1024 * 1024


async def attack(services: ServiceProcesses, name: str, cases: list[Case], normal: Route) -> None:
    """Each case is answered as it should be, large ones fill no memory, small ones leave nothing behind."""
    url, pid = services.url(name), services.pid(name)
    small = [one for one in cases if sum(map(len, one.pieces)) < SMALL_BYTES][::3]

    faults = await faults_of(url, cases)

    assert len(cases) >= LEAST_CASES
    assert not faults, "\n".join(faults)
    assert resident_bytes(pid) < MOST_RESIDENT_BYTES
    await faults_of(url, small)
    before = resident_bytes(pid)
    faults = await faults_of(url, small)
    assert not faults, "\n".join(faults)
    assert resident_bytes(pid) - before < MOST_KEPT_BYTES
    assert (await raw_http.exchange(url, normal.sent())).status == normal.status
    log = services.log(name)
    assert "unexpected failure" not in log
    assert "Traceback" not in log


async def attack_ingestion(stack: Stack, cases: list[Case], normal: Route) -> None:
    """As `attack`, on the gateway; then all that it accepted is applied, and a rebuild has nothing to correct."""
    async with run_services(stack, "gateway", settings=DEADLINES) as services:
        await attack(services, "gateway", cases, normal)
        await services.start(*WORKERS)
        assert await (await stack.write()).fetchval("select count(*) from write.tracking_events") >= LEAST_STORED
        await assert_nothing_to_correct(services, stack)


@pytest.mark.parametrize("is_batch", [False, True], ids=["ingest", "batch"])
async def test_the_gateway_stands_hostile_input(stack: Stack, is_batch: bool) -> None:
    sender = await register_system(stack)
    table = gateway.Table(sender.api_key, is_batch=is_batch)
    await attack_ingestion(stack, table.cases(), table.route)


@pytest.mark.parametrize("kind", ["track", "batch", "beacon"])
async def test_the_routes_of_sdks_stand_hostile_input(stack: Stack, kind: str) -> None:
    table = sdk.Table((await register_system(stack)).api_key, kind)
    await attack_ingestion(stack, table.cases(), table.route)


async def test_the_pixel_stands_hostile_input(stack: Stack) -> None:
    table = sdk.Pixels((await register_system(stack)).api_key)
    await attack_ingestion(stack, table.cases(), table.route)


@pytest.mark.parametrize("kind", ["list", "statistics", "event"])
async def test_query_stands_hostile_input(stack: Stack, kind: str) -> None:
    table = query.Table(await add_token(stack, "admin"), (await add_system(stack)).id, kind)
    async with run_services(stack, "query", settings=DEADLINES) as services:
        await attack(services, "query", table.cases(), table.route)


async def test_the_administration_stands_hostile_bodies(stack: Stack) -> None:
    async with run_services(stack, "admin", settings=DEADLINES) as services:
        known = await register_one_of_each(services)
        table = admin.Table(services.admin_token, known)
        for body in admin.bodies(known):
            await attack(services, "admin", table.of_body(body), table.normal())


async def test_the_administration_stands_hostile_paths_and_http(stack: Stack) -> None:
    async with run_services(stack, "admin", settings=DEADLINES) as services:
        known = await register_one_of_each(services)
        table = admin.Table(services.admin_token, known)
        cases = [*table.framing(), *table.of_paths(), *table.of_lists()]
        await attack(services, "admin", cases, table.normal())
