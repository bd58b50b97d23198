"""Access that is ended has ended when the answer arrives, on every process, whatever happens to Redis meanwhile.

Gateways and query rely on what they cached only while they know the changes in the write database
(tables/credential_changes.py). Each test warms the caches of two gateways, breaks a way by which a change could become
known, ends access through admin, and asks again as soon as admin has answered.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis

from tests.faults.tcp_proxy import TcpProxy, proxied
from tests.support.admin_api import a_partner, a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.service_processes import run_services
from tests.support.stack import Stack
from tracking.contracts.cache_entries import make_access_token_cache_key, make_api_key_cache_key
from tracking.tables.credential_changes import CredentialChanges

INGEST = "/api/events/ingest"
GATEWAYS = ("gateway", "gateway-2")
LONG = {"TRACKING_CACHE_TTL_S": "3600", "TRACKING_TOKEN_CACHE_TTL_S": "3600"}


@dataclass(slots=True)
class Site:
    """Two gateways and query behind one proxy to Redis, admin behind another."""

    stack: Stack
    admin: httpx.AsyncClient
    gateways: list[httpx.AsyncClient]
    query: httpx.AsyncClient
    redis: Redis
    to_redis: TcpProxy
    admin_to_redis: TcpProxy
    signal_gateways: Callable[[signal.Signals], None]

    async def statuses(self, key: str) -> list[int]:
        """What each gateway answers to an event with this key."""
        event = {"eventName": "a", "userId": "u", "apiKey": key}
        return [(await gateway.post(INGEST, json=event)).status_code for gateway in self.gateways]

    async def query_status(self, token: str) -> int:
        """What query answers with this token: 404 if it may ask for an event that is not there."""
        headers = {"Authorization": f"Bearer {token}"}
        return (await self.query.get(f"/api/events/{uuid4()}", headers=headers)).status_code


def _behind(url: str, proxy: TcpProxy) -> str:
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{proxy.port}"))


@asynccontextmanager
async def a_site(stack: Stack) -> AsyncIterator[Site]:
    port = urlsplit(stack.redis_url).port or 6379
    async with (
        proxied(port) as to_redis,
        proxied(port) as admin_to_redis,
        run_services(
            stack, *GATEWAYS, "query", settings=LONG | {"TRACKING_REDIS_URL": _behind(stack.redis_url, to_redis)}
        ) as services,
        run_services(
            stack, "admin", settings={"TRACKING_REDIS_URL": _behind(stack.redis_url, admin_to_redis)}
        ) as administration,
        administrator(administration) as admin,
        http_client(base_url=services.url("gateway"), timeout=PATIENCE_S) as first,
        http_client(base_url=services.url("gateway-2"), timeout=PATIENCE_S) as second,
        http_client(base_url=services.url("query"), timeout=PATIENCE_S) as query,
        Redis.from_url(stack.redis_url) as redis,
    ):

        def signal_gateways(number: signal.Signals) -> None:
            for name in GATEWAYS:
                services.signal(name, number)

        yield Site(stack, admin, [first, second], query, redis, to_redis, admin_to_redis, signal_gateways)


async def nothing_breaks(site: Site) -> None:
    """The way that a change usually takes."""


async def admin_is_cut_off_from_redis(site: Site) -> None:
    """Neither an entry nor an invalidation gets out of admin, and nobody else notices."""
    site.admin_to_redis.hold()


async def gateways_hear_nothing_from_redis(site: Site) -> None:
    """A silent partition: connections stay open, and what was cached is not corrected."""
    site.to_redis.hold()


async def gateways_stand_still(site: Site) -> None:
    """A process that was stopped trusts nothing of what it knew when it goes on."""
    site.signal_gateways(signal.SIGSTOP)


BREAKS = [nothing_breaks, admin_is_cut_off_from_redis, gateways_hear_nothing_from_redis, gateways_stand_still]
Break = Callable[[Site], Awaitable[None]]


async def revoke_key(site: Site, system: dict[str, Any]) -> httpx.Response:
    keys = (await site.admin.get(f"/api/partnersystems/{system['id']}/apikeys")).json()["items"]
    return await site.admin.delete(f"/api/partnersystems/{system['id']}/apikeys/{keys[0]['id']}")


async def replace_key(site: Site, system: dict[str, Any]) -> httpx.Response:
    keys = (await site.admin.get(f"/api/partnersystems/{system['id']}/apikeys")).json()["items"]
    path = f"/api/partnersystems/{system['id']}/apikeys/{keys[0]['id']}/rotate"
    return await site.admin.post(path, json={"graceSeconds": 0})


async def deactivate_system(site: Site, system: dict[str, Any]) -> httpx.Response:
    return await site.admin.post(f"/api/partnersystems/{system['id']}/deactivate")


async def deactivate_partner(site: Site, system: dict[str, Any]) -> httpx.Response:
    return await site.admin.post(f"/api/partners/{system['partnerId']}/deactivate")


ENDS = [(revoke_key, 401), (replace_key, 401), (deactivate_system, 403), (deactivate_partner, 403)]


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda breaks: breaks.__name__)
async def test_a_key_whose_end_was_answered_works_on_no_gateway(stack: Stack, breaks: Break) -> None:
    async with a_site(stack) as site:
        systems = [await a_system(site.admin, await a_partner(site.admin)) for _ in ENDS]
        for system in systems:
            assert await until(partial(site.statuses, system["apiKey"]), lambda seen: seen == [202, 202])
        await breaks(site)

        answers = await asyncio.gather(*(end(site, system) for (end, _), system in zip(ENDS, systems, strict=True)))
        if breaks is gateways_stand_still:
            site.signal_gateways(signal.SIGCONT)
        seen = [await site.statuses(system["apiKey"]) for system in systems]

        assert [answer.status_code for answer in answers] == [204, 201, 200, 200]
        assert seen == [[status, status] for _, status in ENDS]


@pytest.mark.parametrize("breaks", BREAKS[:3], ids=lambda breaks: breaks.__name__)
async def test_a_token_whose_end_was_answered_reads_nothing(stack: Stack, breaks: Break) -> None:
    async with a_site(stack) as site:
        token = (await site.admin.post("/api/tokens", json={"name": "t", "scope": "read"})).json()
        assert await until(lambda: site.query_status(token["token"]), lambda status: status == 404)
        await breaks(site)

        answer = await site.admin.delete(f"/api/tokens/{token['id']}")

        assert answer.status_code == 204
        assert await site.query_status(token["token"]) == 401


async def test_what_redis_has_forgotten_of_a_revocation_revives_nothing(stack: Stack) -> None:
    async with a_site(stack) as site:
        system = await a_system(site.admin)
        token = (await site.admin.post("/api/tokens", json={"name": "t", "scope": "read"})).json()
        assert await until(lambda: site.statuses(system["apiKey"]), lambda seen: seen == [202, 202])
        before = {key: await site.redis.get(key) or b"" for key in await site.redis.keys()}
        assert await site.redis.get(make_api_key_cache_key(sha256(system["apiKey"].encode()).hexdigest()))
        assert await site.redis.get(make_access_token_cache_key(sha256(token["token"].encode()).hexdigest()))

        await revoke_key(site, system)
        await site.admin.delete(f"/api/tokens/{token['id']}")
        # as a replica that lacks the last writes and has become the primary: old values, and all have to connect again
        site.to_redis.reset()
        site.admin_to_redis.reset()
        await site.redis.flushdb()
        for key, value in before.items():
            await site.redis.set(key, value)
        site.to_redis.mend()
        site.admin_to_redis.mend()

        for _ in range(20):
            assert await site.statuses(system["apiKey"]) == [401, 401]
            assert await site.query_status(token["token"]) == 401
            await asyncio.sleep(0.1)


async def test_a_change_by_sql_is_known_as_soon_as_one_by_admin(stack: Stack) -> None:
    async with a_site(stack) as site:
        system = await a_system(site.admin)
        assert await until(lambda: site.statuses(system["apiKey"]), lambda seen: seen == [202, 202])
        owner = await stack.write()

        await owner.execute("update write.api_keys set revoked_at = now() where partner_system_id = $1", system["id"])

        assert await until(lambda: site.statuses(system["apiKey"]), lambda seen: seen == [401, 401], 5)


async def test_a_database_that_is_set_back_makes_no_entry_true_that_is_newer_than_it(stack: Stack) -> None:
    owner = await stack.write()
    changes = CredentialChanges(stack.write_url("gateway"), service="test")
    names: list[Any] = []
    changes.add_listener(names.append)
    add = (
        "insert into write.credential_changes (generation, changed_at) "
        "values (nextval('write.credential_generations'), clock_timestamp()) returning generation"
    )
    numbers = [await owner.fetchval(add) for _ in range(5)]
    assert await changes.poll()
    assert changes.is_current(numbers[4], [])

    await owner.execute("delete from write.credential_changes where generation > $1", numbers[2])
    assert await changes.poll()

    assert [number for number in numbers if changes.is_current(number, [])] == []
    newer = await owner.fetchval(add)
    assert await changes.poll()
    assert [number for number in (*numbers, newer) if changes.is_current(number, [])] == [newer]
    assert names == [None, None]
    changes.close()
