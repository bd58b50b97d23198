"""Access tokens through the administration, and the tokens that the administration accepts."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from tests.support.admin_api import NOBODY, a_partner, administrator, cached
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.contracts import cache_entries
from tracking.contracts.cache_entries import AccessTokenEntry


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


async def status_with(services: ServiceProcesses, token: str) -> tuple[int, str | None]:
    async with http_client(base_url=services.url("admin")) as anyone:
        response = await anyone.get("/api/partners", headers={"Authorization": f"Bearer {token}"})
    return response.status_code, response.json().get("code")


async def test_a_token_opens_what_its_scope_says(
    admin: httpx.AsyncClient, services: ServiceProcesses, stack: Stack
) -> None:
    partner_id = await a_partner(admin)
    made = [
        (await admin.post("/api/tokens", json={"name": "t", **body})).json()
        for body in ({"scope": "admin"}, {"scope": "read"}, {"scope": "read", "partnerId": partner_id})
    ]

    statuses = [await status_with(services, token["token"]) for token in made]

    assert statuses == [(200, None), (403, "not_an_admin_token"), (403, "not_an_admin_token")]
    entry = AccessTokenEntry.decode(await cached(stack, cache_key(made[2]["token"])) or b"")
    assert entry is not None
    assert (entry.scope, str(entry.partner_id), entry.revoked_at) == ("read", partner_id, None)
    listed = await admin.get("/api/tokens", params={"pageSize": 3})
    assert (listed.json()["totalCount"], len(listed.json()["items"])) == (4, 3)
    assert not any(token["token"] in listed.text + services.log("admin") for token in made)
    shown = (await admin.get(f"/api/tokens/{made[2]['id']}")).json()
    assert (shown["lastFour"], shown["partnerId"], shown["isUsable"]) == (made[2]["token"][-4:], partner_id, True)


def cache_key(token: str) -> str:
    return cache_entries.make_access_token_cache_key(sha256(token.encode()).hexdigest())


@pytest.mark.parametrize(("method", "suffix"), [("DELETE", ""), ("POST", "/revoke")])
async def test_a_revoked_token_is_rejected_at_once(
    admin: httpx.AsyncClient, services: ServiceProcesses, stack: Stack, method: str, suffix: str
) -> None:
    token = (await admin.post("/api/tokens", json={"name": "t", "scope": "admin"})).json()
    assert await status_with(services, token["token"]) == (200, None)
    owner = await stack.write()
    born = await owner.fetchval("select updated_at from write.access_tokens where name = 't'")

    answers = [(await admin.request(method, f"/api/tokens/{token['id']}{suffix}")).status_code for _ in range(2)]

    assert answers == [204, 204]
    assert await status_with(services, token["token"]) == (401, "revoked_token")
    entry = AccessTokenEntry.decode(await cached(stack, cache_key(token["token"])) or b"")
    assert entry is not None
    assert entry.revoked_at is not None
    assert await owner.fetchval("select updated_at from write.access_tokens where name = 't'") > born


async def test_an_expired_token_is_rejected(admin: httpx.AsyncClient, services: ServiceProcesses) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    token = (await admin.post("/api/tokens", json={"name": "t", "scope": "admin", "expiresAt": soon})).json()

    answer = await until(lambda: status_with(services, token["token"]), lambda found: found[0] != 200)

    assert answer == (401, "expired_token")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scope": "read"}, "name"),
        ({"name": "a"}, "scope"),
        ({"name": "a", "scope": "root"}, "scope"),
        ({"name": "bootstrap", "scope": "admin"}, "name"),
        ({"name": "a", "scope": "admin", "partnerId": NOBODY}, "partnerId"),
        ({"name": "a", "scope": "read", "partnerId": "x"}, "partnerId"),
        ({"name": "a", "scope": "read", "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"name": "a", "scope": "read", "expiresAt": "2100-01-01"}, "expiresAt"),
    ],
)
async def test_a_bad_token_names_the_field(admin: httpx.AsyncClient, body: Any, field: str) -> None:
    response = await admin.post("/api/tokens", json=body)

    assert response.status_code == 400, response.text
    assert [detail["field"] for detail in response.json()["details"]] == [field]


async def test_a_token_for_nobody_or_of_nobody_is_404(admin: httpx.AsyncClient) -> None:
    made = await admin.post("/api/tokens", json={"name": "a", "scope": "read", "partnerId": NOBODY})
    others = [await admin.request(method, f"/api/tokens/{NOBODY}") for method in ("GET", "DELETE")]

    assert (made.status_code, made.json()["code"]) == (404, "partner_not_found")
    assert {answer.status_code for answer in others} == {404}


async def test_nothing_opens_without_a_good_token(services: ServiceProcesses) -> None:
    async with http_client(base_url=services.url("admin")) as anyone:
        for header in ("", "Bearer", "Bearer tk_nobody", "Basic dGs6", "tk_x", "Bearer \xe9"):
            for method, path in (
                ("GET", "/api/partners"),
                ("POST", "/api/tokens"),
                ("GET", "/api/nothing"),
                ("GET", "/"),
            ):
                response = await anyone.request(method, path, headers=[(b"Authorization", header.encode("latin-1"))])

                assert response.status_code == 401, (header, path)
                assert response.headers["WWW-Authenticate"] == "Bearer"
        twice = [("Authorization", f"Bearer {services.admin_token}")] * 2
        assert (await anyone.get("/api/partners", headers=twice)).status_code == 401


async def test_health_metrics_and_documentation_are_open(services: ServiceProcesses) -> None:
    async with http_client(base_url=services.url("admin")) as anyone:
        for path in ("/health/live", "/health/ready", "/metrics", "/openapi/v1.json", "/scalar/v1"):
            assert (await anyone.get(path)).status_code == 200, path


async def test_another_first_token_in_the_environment_replaces_the_old_one(stack: Stack) -> None:
    async with run_services(stack, "admin") as first:
        old = first.admin_token
    async with run_services(stack, "admin") as second, http_client(base_url=second.url("admin")) as client:
        statuses = [
            (await client.get("/api/partners", headers={"Authorization": f"Bearer {token}"})).status_code
            for token in (old, second.admin_token)
        ]

    assert statuses == [401, 200]


async def test_many_processes_that_start_at_once_store_the_first_token_once(stack: Stack) -> None:
    async with run_services(stack, "admin", "admin-2", "admin-3") as services:
        assert await status_with(services, services.admin_token) == (200, None)

    owner = await stack.write()
    assert await owner.fetchval("select count(*) from write.access_tokens") == 1


async def test_a_first_token_that_was_revoked_stays_revoked_after_a_restart(stack: Stack) -> None:
    async with run_services(stack, "admin") as services:
        async with administrator(services) as admin:
            other = (await admin.post("/api/tokens", json={"name": "mine", "scope": "admin"})).json()["token"]
            [first] = [t for t in (await admin.get("/api/tokens")).json()["items"] if t["name"] == "bootstrap"]
            await admin.delete(f"/api/tokens/{first['id']}")
        assert await status_with(services, services.admin_token) == (401, "revoked_token")

        for _ in range(2):
            await services.stop("admin")
            await services.start("admin")

            assert await status_with(services, services.admin_token) == (401, "revoked_token")
            assert await status_with(services, other) == (200, None)
        assert "it stays revoked" in services.log("admin")


async def test_a_first_token_that_was_replaced_is_not_good_again_when_it_is_named_again(stack: Stack) -> None:
    async with run_services(stack, "admin") as old:
        pass
    async with run_services(stack, "admin") as new:
        new_token, new.admin_token = new.admin_token, old.admin_token

        await new.stop("admin")
        await new.start("admin")

        assert await status_with(new, old.admin_token) == (401, "revoked_token")
        assert await status_with(new, new_token) == (200, None)


async def test_the_documentation_is_valid_openapi_with_examples_and_names_every_route(
    services: ServiceProcesses,
) -> None:
    async with http_client(base_url=services.url("admin")) as anyone:
        document = (await anyone.get("/openapi/v1.json")).json()

    validate(document)
    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == 41
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert document["components"]["schemas"]["NewSystem"]["properties"]["name"]["examples"] == ["Acme Website"]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
