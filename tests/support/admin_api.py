"""The administration as tests use it: with the first admin token, and with the registrations that many tests need."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
from redis.asyncio import Redis

from services.admin.models.partner_systems import SystemAnswer
from tests.support.http_client import http_client
from tests.support.service_processes import ServiceProcesses
from tests.support.stack import Stack
from tracking.contracts import cache_entries
from tracking.contracts.cache_entries import ApiKeyEntry, PartnerSystemEntry

NOBODY = "00000000-0000-0000-0000-000000000000"
SCHEMA = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}


@asynccontextmanager
async def administrator(services: ServiceProcesses, name: str = "admin") -> AsyncIterator[httpx.AsyncClient]:
    """A client with the first admin token, for the process called `name`."""
    headers = {"Authorization": f"Bearer {services.admin_token}"}
    async with http_client(base_url=services.url(name), headers=headers, timeout=20) as client:
        yield client


async def a_partner(admin: httpx.AsyncClient, email: str | None = None) -> str:
    """Its id."""
    response = await admin.post("/api/partners", json={"name": "Acme Corp", "email": email or f"{uuid4()}@acme.com"})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def a_system(admin: httpx.AsyncClient, partner_id: str | None = None, name: str = "Site") -> Any:
    """Register a partner system and return the response, which has the API key."""
    body = {"partnerId": partner_id or await a_partner(admin), "name": name, "type": 1, "description": "Main"}
    response = await admin.post("/api/partnersystems", json=body)
    assert response.status_code == 201, response.text
    return response.json()


async def cached(stack: Stack, key: str) -> bytes | None:
    """Return the JSON that Redis holds under `key`."""
    async with Redis.from_url(stack.redis_url) as redis:
        found = await redis.get(key)
    assert found is None or isinstance(found, bytes)
    return found


async def cached_key(stack: Stack, secret: str) -> ApiKeyEntry | None:
    """Return the entry of an API key in Redis."""
    data = await cached(stack, cache_entries.make_api_key_cache_key(sha256(secret.encode()).hexdigest()))
    return None if data is None else ApiKeyEntry.decode(data)


async def cached_system(stack: Stack, system_id: str) -> Any:
    """What Redis holds of a partner system, in the form in which the API shows it."""
    data = await cached(stack, cache_entries.make_partner_system_cache_key(system_id))
    entry = None if data is None else PartnerSystemEntry.decode(data)
    if entry is None:
        return None
    return SystemAnswer.model_validate(entry.to_system(), from_attributes=True).model_dump(mode="json", by_alias=True)


@dataclass(frozen=True, slots=True)
class RegisteredThings:
    """Ids of things that are there."""

    partner: str
    system: str
    key: str
    structure: str
    access_token: str


async def register_one_of_each(services: ServiceProcesses) -> RegisteredThings:
    """A partner with a system and its key, a structure, a token."""
    async with administrator(services) as client:
        system = await a_system(client)
        keys = (await client.get(f"/api/partnersystems/{system['id']}/apikeys")).json()["items"]
        structure = await client.post("/api/eventstructures", json={"eventName": "purchase", "schema": SCHEMA})
        token = await client.post("/api/tokens", json={"name": "read", "scope": "read"})
        ids = (structure.json()["id"], token.json()["id"])
    return RegisteredThings(system["partnerId"], system["id"], keys[0]["id"], *ids)
