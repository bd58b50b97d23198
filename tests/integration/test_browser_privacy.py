"""The data that is stored about a browser's user, and the pages from which a partner system takes events."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

ORIGIN = "https://shop.example.com"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
RULES = [
    {"path": "$.userId", "action": "hash"},
    {"path": "$.properties.email", "action": "drop"},
    {"path": "$.context.traits.phone", "action": "truncate", "length": 3},
]


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """Gateway and administration."""
    async with run_services(stack, "gateway", "admin") as services:
        yield services


async def a_key(services: ServiceProcesses, **settings: Any) -> str:
    """Of a system with these settings."""
    async with administrator(services) as admin:
        system = await a_system(admin)
        path = f"/api/partnersystems/{system['id']}"
        changed = await admin.patch(path, json={"settings": settings}) if settings else await admin.get(path)
        assert changed.status_code == 200, changed.text
    return str(system["apiKey"])


async def track(services: ServiceProcesses, key: str, headers: dict[str, str], **message: Any) -> httpx.Response:
    body = {"event": "view", "anonymousId": "a", **message}
    async with http_client(base_url=services.url("gateway")) as client:
        return await client.post(f"/v1/track?writeKey={key}", json=body, headers=headers)


async def kept(stack: Stack) -> list[Any]:
    owner = await stack.write()
    rows = await owner.fetch(
        "select user_id, event_properties::text as p, context::text as c, is_bot from write.tracking_events order by id"
    )
    return [(r["user_id"], json.loads(r["p"]), json.loads(r["c"]) if r["c"] else None, r["is_bot"]) for r in rows]


async def test_a_browser_leaves_its_network_and_its_agent_and_a_server_nothing(
    services: ServiceProcesses, stack: Stack
) -> None:
    key = await a_key(services)
    forwarded = {"X-Forwarded-For": "203.0.113.77"}

    await track(services, key, forwarded | {"Origin": ORIGIN, "User-Agent": CHROME})
    await track(services, key, forwarded | {"Origin": ORIGIN, "User-Agent": GOOGLE})
    await track(services, key, forwarded | {"User-Agent": "python-requests/2.32.0"})

    assert [(context, is_bot) for _, _, context, is_bot in await kept(stack)] == [
        ({"ip": "203.0.113.0", "userAgent": CHROME}, False),
        ({"ip": "203.0.113.0", "userAgent": GOOGLE}, True),
        (None, False),
    ]


async def test_rules_apply_before_anything_is_stored(services: ServiceProcesses, stack: Stack) -> None:
    key = await a_key(services, privacyRules=RULES, ipPolicy="drop")
    context = {"ip": "203.0.113.77", "traits": {"phone": "5551234"}}

    answer = await track(services, key, {}, userId="me@x.y", properties={"email": "me@x.y", "n": 1}, context=context)
    async with http_client(base_url=services.url("gateway")) as client:
        event = {"apiKey": key, "eventName": "own", "userId": "me@x.y", "eventProperties": {"email": "me@x.y"}}
        own = await client.post("/api/events/ingest", json=event)

    assert (answer.status_code, own.status_code) == (200, 202)
    (user, properties, context_kept, _), (own_user, own_properties, _, _) = await kept(stack)
    assert (properties, own_properties) == ({"n": 1}, {})
    assert context_kept == {"traits": {"phone": "555"}}
    assert user == own_user != "me@x.y"
    owner = await stack.write()
    everything = await owner.fetchval("select string_agg(t::text, ' ') from write.tracking_events t")
    assert "me@x.y" not in everything
    assert "203.0.113" not in everything


async def test_a_system_takes_events_from_its_own_pages_alone(services: ServiceProcesses, stack: Stack) -> None:
    key = await a_key(services, allowedOrigins=["https://*.example.com"])

    here = await track(services, key, {"Origin": ORIGIN})
    elsewhere = await track(services, key, {"Origin": "https://evil.example.org"})
    no_page = await track(services, key, {})

    assert [answer.status_code for answer in (here, elsewhere, no_page)] == [200, 403, 200]
    assert elsewhere.json()["code"] == "origin_not_allowed"
    assert elsewhere.headers["Access-Control-Allow-Origin"] == "https://evil.example.org"
    assert len(await kept(stack)) == 2
