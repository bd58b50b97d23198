"""Faults of Redis while keys are revoked: a key whose revocation was answered must work on neither of two gateways."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import httpx
from redis.asyncio import Redis

from tests.faults.environment import FaultEnvironment
from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import until

GATEWAYS = ("gateway", "gateway-2")
_TIMES = 3
_PROBES = 15
# nothing is stored, so the checker finds no event that the load did not send
_PROBE = "/api/events/ingest?dryRun=true"

Break = Callable[[FaultEnvironment], AbstractAsyncContextManager[None]]


async def revoke_keys(site: FaultEnvironment, breaks: Break) -> None:
    """Revoke a key inside of `breaks`, several times, and use it from the answer on until a while after the repair."""
    async with administrator(site.others) as admin:
        for _ in range(_TIMES):
            await site.pause(0.5, 2)
            system = await a_system(admin)
            await until(partial(_statuses, site, system["apiKey"]), lambda seen: seen == [202, 202])
            site.record_break()
            async with breaks(site):
                await _revoke(admin, system)
                await _probe(site, system["apiKey"])
            site.record_repair()
            await _probe(site, system["apiKey"])


@asynccontextmanager
async def admin_is_cut_off(site: FaultEnvironment) -> AsyncIterator[None]:
    """Admin reaches Redis no longer; the gateways do."""
    site.networks["redis-of-admin"].reset()
    yield
    site.networks["redis-of-admin"].mend()


@asynccontextmanager
async def gateways_are_cut_off(site: FaultEnvironment) -> AsyncIterator[None]:
    """The connections of the gateways to Redis stay open, and nothing passes."""
    site.networks["redis"].hold()
    yield
    site.networks["redis"].mend()


@asynccontextmanager
async def last_writes_are_lost(site: FaultEnvironment) -> AsyncIterator[None]:
    """A failover to a replica that lacks the last writes: the values of before, and everybody has to connect again."""
    async with Redis.from_url(site.stack.redis_url) as redis:
        before = {key: await redis.get(key) for key in await redis.keys() if await redis.type(key) == b"string"}
        lost = asyncio.create_task(_lose_writes_again_and_again(site, redis, before))
        yield
        lost.cancel()
        await asyncio.wait([lost])
        await _lose_writes(site, redis, before)


async def _lose_writes_again_and_again(site: FaultEnvironment, redis: Redis, before: dict[Any, Any]) -> None:
    while True:
        await asyncio.sleep(site.rng.uniform(0.2, 0.6))
        await _lose_writes(site, redis, before)


async def _lose_writes(site: FaultEnvironment, redis: Redis, before: dict[Any, Any]) -> None:
    for network in ("redis", "redis-of-admin"):
        site.networks[network].reset()
    for key, value in before.items():
        if value is not None:
            await redis.set(key, value, ex=3600)
    for network in ("redis", "redis-of-admin"):
        site.networks[network].mend()


async def _revoke(admin: httpx.AsyncClient, system: dict[str, Any]) -> None:
    path = f"/api/partnersystems/{system['id']}/apikeys"
    [key] = (await admin.get(path)).json()["items"]
    response = await admin.delete(f"{path}/{key['id']}")
    assert response.status_code == 204, response.text


async def _probe(site: FaultEnvironment, key: str) -> None:
    for _ in range(_PROBES):
        seen = await _statuses(site, key)
        if seen != [401, 401]:
            site.broken_promises.append(f"after its revocation was answered, a key got {seen}")
        await asyncio.sleep(0.1)


async def _statuses(site: FaultEnvironment, key: str) -> list[int]:
    event = {"eventName": "probe", "userId": "u", "apiKey": key}
    async with http_client(timeout=20) as client:
        return [(await client.post(site.gateways.url(name) + _PROBE, json=event)).status_code for name in GATEWAYS]
