"""Rate limits of a partner system over all gateways, with Redis and without it."""

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from services.gateway.lookups.rate_limits import RateLimiter
from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.domain.errors import TooManyRequests
from tracking.domain.system_settings import DEFAULT_SETTINGS, SystemSettings
from tracking.infra import redis as cache


@pytest.fixture
async def gateways(stack: Stack) -> AsyncIterator[list[RateLimiter]]:
    """Three, with a connection of their own each."""
    connections = [cache.open_redis(stack.redis_url, timeout_s=2) for _ in range(3)]
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
    passed = 0
    size = max(1, rate // 500)
    started = time.monotonic()

    async def push(limits: RateLimiter) -> None:
        nonlocal passed
        while time.monotonic() - started < 3:
            if await passes(limits, system, settings, size):
                passed += size
            await asyncio.sleep(0)

    await asyncio.gather(*(push(limits) for limits in gateways for _ in range(4)))

    # what the bucket held at first, and what flowed in since; each gateway may still hold a lease
    allowed = burst + rate * (time.monotonic() - started)
    assert 0.95 * allowed <= passed <= 1.05 * allowed


async def test_two_systems_do_not_share_a_limit(gateways: list[RateLimiter]) -> None:
    settings = limited(1, 5)
    first, second = uuid4(), uuid4()

    assert [await passes(gateways[0], first, settings) for _ in range(7)] == [True] * 5 + [False] * 2
    assert [await passes(gateways[1], second, settings) for _ in range(7)] == [True] * 5 + [False] * 2


async def test_a_batch_beyond_the_burst_waits_for_a_full_bucket_and_is_owed(gateways: list[RateLimiter]) -> None:
    system, settings = uuid4(), limited(1_000, 1_000)

    assert await passes(gateways[0], system, settings, 1_500)
    assert not await passes(gateways[1], system, settings)
    assert await until(lambda: passes(gateways[1], system, settings), bool, deadline_s=2)


async def test_small_requests_pass_where_a_large_one_has_to_wait(gateways: list[RateLimiter]) -> None:
    system, settings = uuid4(), limited(10, 100)
    assert await passes(gateways[0], system, settings, 60)

    assert not await passes(gateways[0], system, settings, 90)
    assert await passes(gateways[0], system, settings, 20)


async def test_without_redis_each_gateway_goes_by_a_bucket_of_its_own() -> None:
    redis = cache.open_redis("redis://127.0.0.1:1/0", timeout_s=0.2)
    limits, system, settings = RateLimiter(redis), uuid4(), limited(2, 10)

    answers = [await passes(limits, system, settings) for _ in range(20)]

    assert answers[:10] == [True] * 10
    assert answers.count(False) >= 8
    assert await until(lambda: passes(limits, system, settings), bool, deadline_s=3)
    await redis.aclose()


async def test_a_limit_set_in_admin_holds_at_the_gateway_within_a_second(stack: Stack) -> None:
    async with run_services(stack, "gateway", "gateway-2", "admin") as services, administrator(services) as admin:
        system = await a_system(admin)
        event = {"apiKey": system["apiKey"], "eventName": "x", "userId": "u"}
        assert await send(services, event, 30) == [202] * 30

        changed = await admin.patch(
            f"/api/partnersystems/{system['id']}",
            json={"settings": {"rateLimit": {"eventsPerSecond": 1, "burst": 5}}},
        )
        assert changed.status_code == 200, changed.text

        await until(lambda: send(services, event, 8), lambda statuses: 429 in statuses, deadline_s=5)
        async with http_client(base_url=services.url("gateway")) as client:
            batch = await client.post("/api/events/batch", json={"events": [event] * 6, "apiKey": system["apiKey"]})
            sdk = await client.post(f"/v1/t?writeKey={system['apiKey']}", json={"event": "x", "userId": "u"})

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
