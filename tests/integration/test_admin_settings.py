"""Settings of a partner system are shown, changed, rejected by field, and applied by gateways within a second."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx
import pytest

from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.event_structures import EventStructureLookup
from services.gateway.lookups.invalidation import make_invalidation_listener
from tests.support.admin_api import a_partner, a_system, administrator, cached_key, cached_system
from tests.support.polling import PATIENCE_S, takes_effect, until
from tests.support.registry import register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.domain.system_settings import DEFAULT_SETTINGS, PrivacyRule, SystemSettings
from tracking.infra import postgres, process
from tracking.infra.cache_aside import CacheAside
from tracking.infra.redis import open_redis
from tracking.tables.credential_changes import CredentialChanges

DEFAULTS: dict[str, Any] = {"allowedOrigins": [], "rateLimit": None, "ipPolicy": "truncate", "privacyRules": []}
EVERYTHING = {
    "allowedOrigins": ["https://shop.example.com", "https://*.example.org"],
    "rateLimit": {"eventsPerSecond": 100, "burst": 500},
    "ipPolicy": "drop",
    "privacyRules": [
        {"path": "$.userId", "action": "hash"},
        {"path": "$.properties['e.mail']", "action": "truncate", "length": 7},
    ],
}
AS_A_VALUE = SystemSettings(
    ("https://shop.example.com", "https://*.example.org"),
    100,
    500,
    "drop",
    (PrivacyRule("$.userId", "hash"), PrivacyRule("$.properties['e.mail']", "truncate", 7)),
)
DOWN = "redis://127.0.0.1:1"


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


@asynccontextmanager
async def a_gateways_keys(stack: Stack, redis_url: str) -> AsyncIterator[tuple[ApiKeyLookup, CacheAside]]:
    """The cache of keys as the gateway has it, with its rights and its invalidations, and its way to Redis."""
    async with AsyncExitStack() as resources:
        url = stack.write_url("gateway")
        pool = await postgres.open_pool(
            url, service="test", connect_timeout_s=PATIENCE_S, query_timeout_s=PATIENCE_S, size=2
        )
        resources.push_async_callback(postgres.close_pool, pool)
        redis = open_redis(redis_url, timeout_s=PATIENCE_S)
        resources.push_async_callback(redis.aclose)
        beside = CacheAside(redis)
        changes = CredentialChanges(url, service="test")
        keys = ApiKeyLookup(beside, pool, changes, ttl_s=600, wait_s=PATIENCE_S)
        structures = EventStructureLookup(beside, pool)
        listener = make_invalidation_listener(redis, beside, keys, structures)
        await resources.enter_async_context(process.run_in_background(listener.run(), changes.run()))
        yield keys, beside


async def settings_of(keys: ApiKeyLookup, api_key: str) -> SystemSettings:
    return (await keys.authenticate(api_key, datetime.now(UTC))).settings


async def test_a_system_begins_with_the_defaults(admin: httpx.AsyncClient) -> None:
    system = await a_system(admin)

    shown = (await admin.get(f"/api/partnersystems/{system['id']}")).json()
    listed = (await admin.get("/api/partnersystems")).json()

    assert "settings" not in system
    assert shown["settings"] == DEFAULTS
    assert listed["items"] == [shown]


async def test_a_system_is_registered_with_settings(admin: httpx.AsyncClient, stack: Stack) -> None:
    body = {"partnerId": await a_partner(admin), "name": "A", "type": 1, "settings": EVERYTHING}

    created = (await admin.post("/api/partnersystems", json=body)).json()

    assert created["settings"] == EVERYTHING
    assert (await admin.get(f"/api/partnersystems/{created['id']}")).json()["settings"] == EVERYTHING
    entry = await cached_key(stack, created["apiKey"])
    assert entry is not None
    assert entry.settings == AS_A_VALUE


async def test_a_change_replaces_what_it_names_and_leaves_the_rest(admin: httpx.AsyncClient) -> None:
    path = f"/api/partnersystems/{(await a_system(admin))['id']}"
    expected: dict[str, Any] = dict(DEFAULTS)
    rule = {"path": "$.context", "action": "drop"}

    for change, shown in (
        (EVERYTHING, EVERYTHING),
        ({}, {}),
        ({"allowedOrigins": ["HTTPS://A.example:443"]}, {"allowedOrigins": ["https://a.example"]}),
        ({"rateLimit": {"eventsPerSecond": 9}}, {"rateLimit": {"eventsPerSecond": 9, "burst": 18}}),
        ({"ipPolicy": "keep"}, {"ipPolicy": "keep"}),
        ({"privacyRules": [rule]}, {"privacyRules": [rule]}),
        (
            {"privacyRules": [{"path": "$.userId", "action": "truncate"}]},
            {"privacyRules": [{"path": "$.userId", "action": "truncate", "length": 4}]},
        ),
        ({"rateLimit": None}, {"rateLimit": None}),
        ({"allowedOrigins": [], "privacyRules": []}, {"allowedOrigins": [], "privacyRules": []}),
    ):
        expected |= shown
        changed = await admin.patch(path, json={"settings": change})

        assert changed.status_code == 200, changed.text
        assert changed.json()["settings"] == expected
        assert (await admin.get(path)).json() == changed.json()
    again = await admin.patch(path, json={"settings": expected, "name": "New"})
    assert (again.json()["settings"], again.json()["name"]) == (expected, "New")


BAD_SETTINGS: list[tuple[Any, str]] = [
    (5, "settings"),
    ([5], "settings"),
    ({"regions": []}, "settings.regions"),
    ({"allowedOrigins": "https://a.example"}, "settings.allowedOrigins"),
    ({"allowedOrigins": [f"https://a{n}.example" for n in range(51)]}, "settings.allowedOrigins"),
    ({"allowedOrigins": ["https://a.example", 5]}, "settings.allowedOrigins[1]"),
    ({"allowedOrigins": ["https://a.example", "https://a.example/x"]}, "settings.allowedOrigins[1]"),
    ({"allowedOrigins": ["*"]}, "settings.allowedOrigins[0]"),
    ({"allowedOrigins": ["https://a.example\x00"]}, "settings.allowedOrigins[0]"),
    ({"rateLimit": 100}, "settings.rateLimit"),
    ({"rateLimit": {}}, "settings.rateLimit.eventsPerSecond"),
    ({"rateLimit": {"eventsPerSecond": 0}}, "settings.rateLimit.eventsPerSecond"),
    ({"rateLimit": {"eventsPerSecond": 1_000_001}}, "settings.rateLimit.eventsPerSecond"),
    ({"rateLimit": {"eventsPerSecond": True}}, "settings.rateLimit.eventsPerSecond"),
    ({"rateLimit": {"eventsPerSecond": "5"}}, "settings.rateLimit.eventsPerSecond"),
    ({"rateLimit": {"eventsPerSecond": 10**30}}, "settings.rateLimit.eventsPerSecond"),
    ({"rateLimit": {"eventsPerSecond": 5, "burst": 4}}, "settings.rateLimit.burst"),
    ({"rateLimit": {"eventsPerSecond": 5, "burst": 2_000_001}}, "settings.rateLimit.burst"),
    ({"ipPolicy": "mask"}, "settings.ipPolicy"),
    ({"privacyRules": {}}, "settings.privacyRules"),
    ({"privacyRules": ["$.userId"]}, "settings.privacyRules[0]"),
    ({"privacyRules": [{"action": "drop"}]}, "settings.privacyRules[0].path"),
    ({"privacyRules": [{"path": "$.eventName", "action": "drop"}]}, "settings.privacyRules[0].path"),
    ({"privacyRules": [{"path": "$.properties.a\x00", "action": "drop"}]}, "settings.privacyRules[0].path"),
    ({"privacyRules": [{"path": "$.userId", "action": "mask"}]}, "settings.privacyRules[0].action"),
    ({"privacyRules": [{"path": "$.userId", "action": "hash", "length": 4}]}, "settings.privacyRules[0].length"),
    ({"privacyRules": [{"path": "$.userId", "action": "truncate", "length": 0}]}, "settings.privacyRules[0].length"),
    ({"privacyRules": [{"path": "$.userId", "action": "drop"}] * 2}, "settings.privacyRules[1].path"),
]


async def test_bad_settings_name_the_field_and_change_nothing(admin: httpx.AsyncClient) -> None:
    system = await a_system(admin)
    path = f"/api/partnersystems/{system['id']}"
    await admin.patch(path, json={"settings": EVERYTHING})
    before = (await admin.get(path)).json()
    new = {"partnerId": system["partnerId"], "name": "B", "type": 1}

    for settings, field in BAD_SETTINGS:
        answers = [
            await admin.patch(path, json={"name": "New", "settings": settings}),
            await admin.post("/api/partnersystems", json={**new, "settings": settings}),
        ]
        for answer in answers:
            assert answer.status_code == 400, (settings, answer.text)
            assert [detail["field"] for detail in answer.json()["details"]] == [field], settings

    assert (await admin.get("/api/partnersystems")).json()["items"] == [before]


async def test_every_bad_rule_is_named(admin: httpx.AsyncClient) -> None:
    rules = [{"path": path, "action": "drop"} for path in ("userId", "$.userId", "$.properties.a[0]")]

    answer = await admin.patch(
        f"/api/partnersystems/{(await a_system(admin))['id']}", json={"settings": {"privacyRules": rules}}
    )

    fields = [detail["field"] for detail in answer.json()["details"]]
    assert fields == ["settings.privacyRules[0].path", "settings.privacyRules[2].path"]


async def test_a_change_stands_in_redis_before_the_answer_for_every_key(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    path = f"/api/partnersystems/{system['id']}"
    other = (await admin.post(f"{path}/apikeys")).json()

    await admin.patch(path, json={"settings": EVERYTHING})

    for secret in (system["apiKey"], other["apiKey"]):
        entry = await cached_key(stack, secret)
        assert entry is not None
        assert entry.settings == AS_A_VALUE
    assert await cached_system(stack, system["id"]) == (await admin.get(path)).json()
    owner = await stack.write()
    names = await owner.fetch("select name from write.domain_events where delivered_at is not null order by id")
    assert [row["name"] for row in names].count("PartnerSystemSettingsChanged") == 1


@pytest.mark.parametrize("redis", ["up", "down"])
async def test_a_change_reaches_a_gateways_keys_within_a_second(
    admin: httpx.AsyncClient, stack: Stack, redis: str
) -> None:
    system = await a_system(admin)
    async with a_gateways_keys(stack, stack.redis_url if redis == "up" else DOWN) as (keys, beside):
        if redis == "up":
            await until(lambda: asyncio.sleep(0, beside.is_subscribed), bool)
        assert await settings_of(keys, system["apiKey"]) == DEFAULT_SETTINGS
        path = f"/api/partnersystems/{system['id']}"

        async def is_seen() -> bool:
            found = await settings_of(keys, system["apiKey"])
            assert found in (DEFAULT_SETTINGS, AS_A_VALUE)
            return found == AS_A_VALUE

        # without Redis a gateway trusts what it knows for a second, from when it was looked up
        await takes_effect(
            1.0 if redis == "up" else 1.5,
            change=lambda: admin.patch(path, json={"settings": EVERYTHING}),
            undo=lambda: admin.patch(path, json={"settings": DEFAULTS}),
            is_seen=is_seen,
        )


async def test_a_gateway_reads_the_settings_from_the_database(stack: Stack) -> None:
    sender = await register_system(stack)
    owner = await stack.write()
    await owner.execute("update write.partner_systems set settings = $1", json.dumps(EVERYTHING))

    async with a_gateways_keys(stack, DOWN) as (keys, _):
        assert await settings_of(keys, sender.api_key) == AS_A_VALUE


async def test_the_database_takes_only_an_object(stack: Stack) -> None:
    await register_system(stack)
    owner = await stack.write()

    with pytest.raises(asyncpg.CheckViolationError):
        await owner.execute("update write.partner_systems set settings = '[]'")


async def test_the_documentation_shows_the_settings(admin: httpx.AsyncClient) -> None:
    document = (await admin.get("/openapi/v1.json")).json()

    schemas = document["components"]["schemas"]
    assert set(schemas["SettingsChange"]["properties"]) == set(EVERYTHING)
    assert set(schemas["SettingsAnswer"]["properties"]) == set(EVERYTHING)
    assert schemas["PrivacySetting"]["properties"]["path"]["examples"] == ["$.properties.email"]
    assert "settings" not in schemas["RegisteredSystem"]["required"]
