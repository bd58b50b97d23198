"""Rate limits of a partner system over all gateways, with Redis and without it."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import httpx
import pytest

from services.gateway.lookups.rate_limits import RateLimiter
from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, in_time, takes_effect, until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.domain.errors import TooManyRequests
from tracking.domain.system_settings import DEFAULT_SETTINGS, SystemSettings
from tracking.infra.redis import open_redis


@pytest.fixture
async def gateways(stack: Stack) -> AsyncIterator[list[RateLimiter]]:
    """Three, with a connection of their own each."""
    connections = [open_redis(stack.redis_url, timeout_s=PATIENCE_S) for _ in range(3)]
    yield [RateLimiter(redis) for redis in connections]
    for redis in connections:
        await redis.aclose()


def limited(rate: int, burst: int | None = None) -> SystemSettings:
    return SystemSettings(rate_limit_events_per_second=rate, rate_limit_burst=burst)


async def passes(limits: RateLimiter, system: UUID, settings: SystemSettings, events: int = 1) -> bool:
    try:
        await limits.acquire(system, settings, events)
    except TooManyRequests:
        return False
    return True


async def test_a_system_without_a_limit_is_never_asked_about(gateways: list[RateLimiter]) -> None:
    assert all([await passes(gateways[0], uuid4(), DEFAULT_SETTINGS, 10_000) for _ in range(100)])


@pytest.mark.parametrize(("rate", "burst"), [(50, 50), (2_000, 2_000), (20_000, 20_000)])
async def test_the_total_over_all_gateways_is_the_limit(gateways: list[RateLimiter], rate: int, burst: int) -> None:
    system, settings = uuid4(), limited(rate, burst)
    passed = passed_before_refusal = 0
    size = max(1, rate // 500)
    refused_at = started = time.monotonic()

    async def push(limits: RateLimiter) -> None:
        nonlocal passed, passed_before_refusal, refused_at
        # until the bucket is found empty once the time is up; a busy machine may have let it fill up meanwhile
        while refused_at - started < 3:
            asked_at = time.monotonic()
            if await passes(limits, system, settings, size):
                passed += size
            else:
                refused_at, passed_before_refusal = asked_at, passed
            await asyncio.sleep(0)

    await asyncio.gather(*(push(limits) for limits in gateways for _ in range(4)))

    # what the bucket held at first, and what flowed in since; each gateway may still hold a lease
    assert passed_before_refusal >= 0.95 * (burst + rate * (refused_at - started))
    assert passed <= 1.05 * (burst + rate * (time.monotonic() - started))


async def test_two_systems_do_not_share_a_limit(gateways: list[RateLimiter]) -> None:
    settings = limited(1, 5)

    async def seven_of_each() -> list[list[bool]]:
        systems = (uuid4(), uuid4())
        return [
            [await passes(limits, system, settings) for _ in range(7)]
            for limits, system in zip(gateways[:2], systems, strict=True)
        ]

    # within a second, as then one more may pass
    assert await in_time(1, seven_of_each) == [[True] * 5 + [False] * 2] * 2


async def test_a_batch_beyond_the_burst_waits_for_a_full_bucket_and_is_owed(gateways: list[RateLimiter]) -> None:
    settings = limited(1_000, 1_000)

    async def a_batch_and_one_event() -> tuple[UUID, bool, bool]:
        system = uuid4()
        return (
            system,
            await passes(gateways[0], system, settings, 1_500),
            await passes(gateways[1], system, settings),
        )

    # the 500 that are owed are there after half a second
    system, *passed = await in_time(0.4, a_batch_and_one_event)
    assert passed == [True, False]
    assert await until(lambda: passes(gateways[1], system, settings), bool)


async def test_small_requests_pass_where_a_large_one_has_to_wait(gateways: list[RateLimiter]) -> None:
    settings = limited(10, 100)

    async def some() -> list[bool]:
        system = uuid4()
        return [await passes(gateways[0], system, settings, events) for events in (60, 90, 20)]

    # after five seconds the large one passes too
    assert await in_time(5, some) == [True, False, True]


async def test_without_redis_each_gateway_goes_by_a_bucket_of_its_own() -> None:
    redis = open_redis("redis://127.0.0.1:1/0", timeout_s=0.2)
    limits, settings = RateLimiter(redis), limited(2, 10)

    async def twenty() -> tuple[UUID, list[bool]]:
        system = uuid4()
        return system, [await passes(limits, system, settings) for _ in range(20)]

    system, answers = await in_time(1, twenty)

    assert answers[:10] == [True] * 10
    assert answers.count(False) >= 8
    assert await until(lambda: passes(limits, system, settings), bool)
    await redis.aclose()


async def test_a_limit_set_in_admin_holds_at_the_gateway_within_a_second(stack: Stack) -> None:
    settings = {"TRACKING_CACHE_TTL_S": "600"}
    async with (
        run_services(stack, "gateway", "gateway-2", "admin", settings=settings) as services,
        administrator(services) as admin,
        http_client(base_url=services.url("gateway")) as client,
    ):
        system = await a_system(admin)
        event = {"apiKey": system["apiKey"], "eventName": "x", "userId": "u"}
        assert await send(services, event, 30) == [202] * 30

        async def limit(to: dict[str, int] | None) -> None:
            path = f"/api/partnersystems/{system['id']}"
            changed = await admin.patch(path, json={"settings": {"rateLimit": to}})
            assert changed.status_code == 200, changed.text

        async def is_limited() -> bool:
            return 429 in await send(services, event, 8)

        await takes_effect(1, lambda: limit({"eventsPerSecond": 1, "burst": 5}), lambda: limit(None), is_limited)

        async def refused(path: str, body: object) -> httpx.Response:
            """Some may pass before, as one flows in each second."""
            return await until(lambda: client.post(path, json=body), lambda answer: answer.is_error)

        batch = await refused("/api/events/batch", {"events": [event] * 6, "apiKey": system["apiKey"]})
        sdk = await refused(f"/v1/t?writeKey={system['apiKey']}", {"event": "x", "userId": "u"})

        for answer in (batch, sdk):
            assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.headers["RateLimit-Limit"] == "1"
            assert int(answer.headers["RateLimit-Reset"]) >= 1
            assert "RateLimit-Remaining" in answer.headers


async def send(services: ServiceProcesses, event: dict[str, str], number: int) -> list[int]:
    """Singles to both gateways in turn."""
    async with http_client() as client:
        urls = [services.url(name) + "/api/events/ingest" for name in ("gateway", "gateway-2")]
        return [(await client.post(urls[n % 2], json=event)).status_code for n in range(number)]
