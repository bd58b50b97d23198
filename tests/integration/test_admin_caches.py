"""A command of admin updates Redis, publishes invalidations, and leaves domain events behind."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from tests.support.admin_api import (
    NOBODY,
    SCHEMA,
    a_partner,
    a_system,
    administrator,
    cached,
    cached_key,
    cached_system,
)
from tests.support.dead_letters import metric
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, in_time, until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.contracts import cache_entries, invalidation
from tracking.contracts.invalidation import INVALIDATION_CHANNEL

INVALIDATION_SCHEMA = json.loads((Path(invalidation.__file__).parent / "invalidation.schema.json").read_text())
NOWHERE = {"TRACKING_REDIS_URL": "redis://127.0.0.1:1"}


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """The administration alone."""
    async with run_services(stack, "admin") as services:
        yield services


@pytest.fixture
async def admin(services: ServiceProcesses) -> AsyncIterator[httpx.AsyncClient]:
    """With the first admin token."""
    async with administrator(services) as client:
        yield client


async def test_deactivation_reaches_redis_and_is_published_before_the_answer(
    admin: httpx.AsyncClient, stack: Stack
) -> None:
    partner_id = await a_partner(admin)
    systems = [await a_system(admin, partner_id, f"S{n}") for n in range(3)]
    async with Redis.from_url(stack.redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(INVALIDATION_CHANNEL)
        await pubsub.get_message(timeout=PATIENCE_S)

        await admin.post(f"/api/partners/{partner_id}/deactivate")

        received = [await pubsub.get_message(timeout=PATIENCE_S) for _ in systems]
    entries = [await cached_key(stack, system["apiKey"]) for system in systems]
    assert all(entry is not None and not entry.is_partner_active and entry.is_system_active for entry in entries)
    digests = {sha256(system["apiKey"].encode()).hexdigest() for system in systems}
    assert all(any(digest.encode() in message["data"] for message in received if message) for digest in digests)
    await admin.post(f"/api/partnersystems/{systems[0]['id']}/deactivate")
    await admin.post(f"/api/partners/{partner_id}/activate")
    first = await cached_key(stack, systems[0]["apiKey"])
    assert first is not None
    assert first.is_partner_active
    assert not first.is_system_active


async def test_a_system_stands_in_redis_as_it_is_shown(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    path = f"/api/partnersystems/{system['id']}"

    for change in ({"name": "New"}, {"description": "Other"}):
        await admin.patch(path, json=change)
        assert await cached_system(stack, system["id"]) == (await admin.get(path)).json()

    await admin.patch(f"/api/partners/{system['partnerId']}", json={"name": "Acme Inc"})
    key = await cached_key(stack, system["apiKey"])
    assert key is not None
    assert (key.system_name, key.partner_name) == ("New", "Acme Inc")


async def lookups(services: ServiceProcesses) -> tuple[float, float]:
    """How many systems were answered from Redis, and how many from the database."""
    name = "tracking_cache_lookups_total"
    found = [
        await metric(services, "admin", f'{name}{{answered_by="{by}",cache="partner_system"}}')
        for by in ("redis", "database")
    ]
    return found[0], found[1]


async def test_a_system_is_answered_from_redis_and_as_the_database_has_it(
    admin: httpx.AsyncClient, services: ServiceProcesses
) -> None:
    system = await a_system(admin)
    path = f"/api/partnersystems/{system['id']}"
    changes: list[tuple[str, str, Any]] = [
        ("PATCH", "", {"name": "New"}),
        ("PUT", "", {"type": 2, "settings": {"rateLimit": {"eventsPerSecond": 9}}}),
        ("POST", "/deactivate", None),
        ("POST", "/activate", None),
    ]

    for number, (method, suffix, body) in enumerate(changes, 1):
        changed = (await admin.request(method, path + suffix, json=body)).json()

        assert (await admin.get(path)).json() == changed
        assert (await admin.get("/api/partnersystems")).json()["items"] == [changed]
        assert await lookups(services) == (number, 0)


async def test_an_old_entry_in_redis_is_never_shown(
    admin: httpx.AsyncClient, services: ServiceProcesses, stack: Stack
) -> None:
    system = await a_system(admin)
    path, key = f"/api/partnersystems/{system['id']}", cache_entries.make_partner_system_cache_key(system["id"])
    old = await cached(stack, key)
    assert old is not None
    changed = (await admin.patch(path, json={"name": "New"})).json()

    async with Redis.from_url(stack.redis_url) as redis:
        # as if the write after the change were lost, or one from before it came late
        for unusable in (old, b"{}", b"\xff"):
            await redis.set(key, unusable)
            assert (await admin.get(path)).json() == changed
            assert await redis.get(key) == unusable

    assert await lookups(services) == (0, 3)


async def test_a_missing_entry_is_filled_for_a_while(
    admin: httpx.AsyncClient, services: ServiceProcesses, stack: Stack
) -> None:
    system = await a_system(admin)
    path, key = f"/api/partnersystems/{system['id']}", cache_entries.make_partner_system_cache_key(system["id"])
    async with Redis.from_url(stack.redis_url) as redis:
        await redis.delete(key)

        shown = [(await admin.get(path)).json() for _ in range(3)]

        assert 0 < await redis.ttl(key) <= 3600
    assert shown[0] == shown[1] == shown[2] == await cached_system(stack, system["id"])
    assert await lookups(services) == (2, 1)


async def test_a_system_that_is_not_there_is_404_though_redis_has_an_entry(
    admin: httpx.AsyncClient, stack: Stack
) -> None:
    system = await a_system(admin)
    entry = await cached(stack, cache_entries.make_partner_system_cache_key(system["id"]))
    async with Redis.from_url(stack.redis_url) as redis:
        await redis.set(cache_entries.make_partner_system_cache_key(NOBODY), entry or b"")

    answers = [await admin.get(f"/api/partnersystems/{id_}") for id_ in (NOBODY, "x")]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json()["code"] == "partner_system_not_found"


async def test_without_redis_a_system_is_shown_as_it_was_last_changed(stack: Stack) -> None:
    async with run_services(stack, "admin", settings=NOWHERE) as services, administrator(services) as admin:
        system = await a_system(admin)
        path = f"/api/partnersystems/{system['id']}"
        for name in ("First", "Second"):
            changed = (await admin.patch(path, json={"name": name})).json()

            assert (await admin.get(path)).json() == changed
        assert await lookups(services) == (0, 2)


async def test_a_change_that_redis_does_not_have_yet_is_shown_by_every_process(stack: Stack) -> None:
    async with run_services(stack, "admin", "admin-2") as services:
        async with administrator(services) as one, administrator(services, "admin-2") as two:
            system = await a_system(one)
            path = f"/api/partnersystems/{system['id']}"
            owner = await stack.write()
            # as the moment after the commit of a change, before its process has written to Redis
            await owner.execute("update write.partner_systems set name = 'New', updated_at = now()")

            shown = [(await admin.get(path)).json() for admin in (one, two)]

            assert [item["name"] for item in shown] == ["New", "New"]
            assert (await cached_system(stack, system["id"]))["name"] == "Site"


async def test_what_is_published_says_what_changed(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    async with Redis.from_url(stack.redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(INVALIDATION_CHANNEL)
        await pubsub.get_message(timeout=PATIENCE_S)

        await admin.post(
            f"/api/partners/{system['partnerId']}/eventstructures", json={"eventName": system["id"], "schema": SCHEMA}
        )
        token = (await admin.post("/api/tokens", json={"name": "t", "scope": "read"})).json()["token"]

        received = await receive_until_now(redis, pubsub)
    for message in received:
        jsonschema.validate(message, INVALIDATION_SCHEMA, jsonschema.Draft7Validator)
    assert {"kind": "structure"} in received
    assert {"kind": "access_token", "sha256": sha256(token.encode()).hexdigest()} in received


async def test_one_message_stands_for_many_keys(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    for _ in range(25):
        await admin.post(f"/api/partnersystems/{system['id']}/apikeys")
    async with Redis.from_url(stack.redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(INVALIDATION_CHANNEL)
        await pubsub.get_message(timeout=PATIENCE_S)

        await admin.post(f"/api/partnersystems/{system['id']}/deactivate")

        received = await receive_until_now(redis, pubsub)
    assert {"kind": "all"} in received
    key = await cached_key(stack, system["apiKey"])
    assert key is not None
    assert not key.is_system_active


async def receive_until_now(redis: Redis, pubsub: PubSub) -> list[Any]:
    """Return what was published before this call, which ends it with a mark of its own."""
    mark = uuid4().hex.encode()
    await redis.publish(INVALIDATION_CHANNEL, mark)
    received = []
    while (message := await pubsub.get_message(timeout=PATIENCE_S)) is not None and message["data"] != mark:
        received.append(json.loads(message["data"]))
    return received


async def test_entries_end_with_their_time_to_live(stack: Stack) -> None:
    async with run_services(stack, "admin", settings={"TRACKING_CACHE_TTL_S": "100"}) as services:
        async with administrator(services) as admin:
            await a_system(admin)
            await admin.post("/api/eventstructures", json={"eventName": "p", "schema": SCHEMA})

    async with Redis.from_url(stack.redis_url) as redis:
        lives = {key.decode().rsplit(":", 1)[0]: await redis.ttl(key) async for key in redis.scan_iter()}
    assert set(lives) == {"partner_system:apikey", "partner_system", "event_structure", "access_token"}
    assert all(0 < seconds <= 100 for seconds in lives.values())


async def test_a_change_while_redis_is_away_is_told_when_it_is_back(stack: Stack) -> None:
    async with run_services(stack, "admin", settings={"TRACKING_REDIS_URL": "redis://127.0.0.1:1"}) as services:
        headers = {"Authorization": f"Bearer {services.admin_token}"}
        async with http_client(base_url=services.url("admin"), headers=headers, timeout=20) as admin:
            system = await a_system(admin)
            response = await admin.post(f"/api/partnersystems/{system['id']}/deactivate")
            assert response.status_code == 200
    assert await cached_key(stack, system["apiKey"]) is None

    async with run_services(stack, "admin"):
        entry = await until(lambda: cached_key(stack, system["apiKey"]), lambda found: found is not None)

    assert entry is not None
    assert not entry.is_system_active
    owner = await stack.write()
    assert await owner.fetchval("select count(*) from write.domain_events where delivered_at is null") == 0


async def test_without_redis_an_answer_does_not_wait_long_and_the_process_is_ready(stack: Stack) -> None:
    async with run_services(stack, "admin", settings=NOWHERE) as services, administrator(services) as admin:
        system = await in_time(5, lambda: a_system(admin))
        health = await admin.get("/health/ready")

    assert system["apiKey"].startswith("sk_")
    assert (health.status_code, health.json()["checks"]["redis"] != "ok") == (200, True)


async def test_a_redis_that_answers_nothing_does_not_hold_up_a_change(stack: Stack) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hold, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    settings = {"TRACKING_REDIS_URL": f"redis://127.0.0.1:{port}", "TRACKING_REDIS_TIMEOUT_S": "0.3"}
    async with run_services(stack, "admin", settings=settings) as services, administrator(services) as admin:
        await in_time(3, lambda: a_partner(admin))
    server.close()
    await server.wait_closed()


async def test_a_backlog_is_delivered_by_several_processes_without_a_pause(stack: Stack) -> None:
    owner = await stack.write()
    async with run_services(stack, "admin", settings=NOWHERE) as services, administrator(services) as admin:
        systems = await asyncio.gather(*(a_system(admin) for _ in range(40)))
        for _ in range(3):
            for system in systems:
                await admin.patch(f"/api/partnersystems/{system['id']}", json={"name": f"{_}"})
    assert await owner.fetchval("select count(*) from write.domain_events where delivered_at is null") > 200

    async with run_services(stack, "admin", "admin-2"):
        await until(
            lambda: owner.fetchval("select count(*) from write.domain_events where delivered_at is null"),
            lambda waiting: waiting == 0,
        )

    entries = [await cached_key(stack, system["apiKey"]) for system in systems]
    assert {entry.system_name for entry in entries if entry} == {"2"}


async def test_changes_at_once_in_several_processes_leave_the_newest_in_redis(stack: Stack) -> None:
    async with run_services(stack, "admin", "admin-2") as services:
        async with administrator(services) as one, administrator(services, "admin-2") as two:
            system = await a_system(one)
            path = f"/api/partnersystems/{system['id']}"
            for turn in range(20):
                await asyncio.gather(
                    *(admin.patch(path, json={"name": f"{turn}-{n}"}) for n, admin in enumerate((one, two) * 3)),
                    one.post(f"{path}/{'deactivate' if turn % 2 else 'activate'}"),
                )
                shown = (await one.get(path)).json()
                entry = await cached_key(stack, system["apiKey"])
                assert entry is not None
                assert (entry.system_name, entry.is_system_active) == (shown["name"], shown["isActive"])


async def test_domain_events_are_stored_without_secrets(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    await admin.post(f"/api/partnersystems/{system['id']}/deactivate", headers={"X-Correlation-ID": "why-1"})

    owner = await stack.write()
    rows = await owner.fetch("select name, payload::text as payload, correlation_id from write.domain_events")

    names = [row["name"] for row in rows]
    assert {"PartnerRegistered", "PartnerSystemRegistered", "ApiKeyIssued", "PartnerSystemDeactivated"} <= set(names)
    assert [row["correlation_id"] for row in rows if row["name"] == "PartnerSystemDeactivated"] == ["why-1"]
    assert not any(system["apiKey"] in row["payload"] for row in rows)


async def test_an_answer_without_its_database_is_503_and_comes_back(stack: Stack) -> None:
    async with run_services(stack, "admin") as services, administrator(services) as admin:
        owner = await stack.write()
        name = await owner.fetchval("select current_database()")
        await owner.execute(f'alter database "{name}" with connection limit 0')
        await owner.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'tracking_admin'")

        down = await until(lambda: admin.post("/api/partners", json={}), lambda answer: answer.status_code == 503)
        await owner.execute(f'alter database "{name}" with connection limit -1')
        up = await until(lambda: admin.get("/api/partners"), lambda answer: answer.status_code == 200)

    assert down.headers["Retry-After"] == "2"
    assert up.json()["totalCount"] == 0
