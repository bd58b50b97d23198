"""The administration on real servers: every route, good and bad, and what its changes do to the caches."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest
from openapi_spec_validator import validate
from redis.asyncio import Redis

from tests.polling import until
from tests.services import Services, running
from tests.stack import Stack
from tracking.contracts.cache_entries import AccessTokenEntry, ApiKeyEntry
from tracking.infra import cache

SCHEMA = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}
NOBODY = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[Services]:
    """The administration alone."""
    async with running(stack, "admin") as services:
        yield services


@pytest.fixture
async def admin(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """With the first admin token."""
    headers = {"Authorization": f"Bearer {services.admin_token}"}
    async with httpx.AsyncClient(base_url=services.url("admin"), headers=headers, timeout=20) as client:
        yield client


async def a_partner(admin: httpx.AsyncClient, email: str = "admin@acme.com") -> str:
    response = await admin.post("/api/partners", json={"name": "Acme Corp", "email": email})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def a_system(admin: httpx.AsyncClient, partner_id: str | None = None, name: str = "Site") -> Any:
    partner_id = partner_id or await a_partner(admin, f"{uuid4()}@acme.com")
    body = {"partnerId": partner_id, "name": name, "type": 1, "description": "Main"}
    response = await admin.post("/api/partnersystems", json=body)
    assert response.status_code == 201, response.text
    return response.json()


async def cached_key(stack: Stack, secret: str) -> ApiKeyEntry | None:
    async with Redis.from_url(stack.redis_url) as redis:
        data = await redis.get(cache.api_key_cache_key(sha256(secret.encode()).hexdigest()))
    return None if data is None else ApiKeyEntry.decode(data)


async def test_a_partner_is_registered_shown_changed_and_listed(admin: httpx.AsyncClient) -> None:
    created = await admin.post("/api/partners", json={"name": " Acme Corp ", "email": "admin@acme.com"})

    assert created.status_code == 201
    assert set(created.json()) == {"id", "name", "email", "isActive"}
    assert created.json()["name"] == "Acme Corp"
    location = created.headers["Location"]
    changed = await admin.patch(location, json={"name": "Acme Inc"})
    shown = await admin.get(location)
    assert changed.json() == shown.json()
    assert (shown.json()["name"], shown.json()["email"]) == ("Acme Inc", "admin@acme.com")
    listed = (await admin.get("/api/partners", params={"email": "ADMIN@acme.com"})).json()
    assert [item["id"] for item in listed["items"]] == [created.json()["id"]]
    assert (listed["totalCount"], listed["pageNumber"], listed["pageSize"]) == (1, 1, 100)


async def test_an_address_belongs_to_one_partner(admin: httpx.AsyncClient) -> None:
    await a_partner(admin, "one@acme.com")
    other = await a_partner(admin, "two@acme.com")

    again = await admin.post("/api/partners", json={"name": "B", "email": "ONE@acme.com"})
    moved = await admin.put(f"/api/partners/{other}", json={"email": "one@acme.com"})

    assert (again.status_code, again.json()["code"]) == (409, "email_taken")
    assert (moved.status_code, moved.json()["code"]) == (409, "email_taken")


async def test_pages_of_a_list_hold_each_partner_once(admin: httpx.AsyncClient) -> None:
    made = [await a_partner(admin, f"p{n}@acme.com") for n in range(5)]

    pages = [(await admin.get("/api/partners", params={"pageNumber": n, "pageSize": 2})).json() for n in (1, 2, 3, 4)]

    assert [item["id"] for page in pages for item in page["items"]] == made
    assert {page["totalCount"] for page in pages} == {5}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/partners", {"email": "a@b.c"}, "name"),
        ("/api/partners", {"name": "", "email": "a@b.c"}, "name"),
        ("/api/partners", {"name": "  ", "email": "a@b.cd"}, "name"),
        ("/api/partners", {"name": "x" * 201, "email": "a@b.c"}, "name"),
        ("/api/partners", {"name": "A", "email": "no address"}, "email"),
        ("/api/partners", {"name": "A\x00", "email": "a@b.cd"}, "name"),
        ("/api/partners", {"name": "A", "email": "a@b.cd", "extra": 1}, "extra"),
        ("/api/partnersystems", {"partnerId": "x", "name": "A", "type": 1}, "partnerId"),
        ("/api/partnersystems", {"partnerId": NOBODY, "name": "A", "type": 7}, "type"),
        ("/api/eventstructures", {"eventName": "a", "schema": {"type": "nothing"}}, "#/type"),
        ("/api/eventstructures", {"eventName": "a", "schema": "{"}, "schema"),
        ("/api/tokens", {"name": "a", "scope": "root"}, "scope"),
        ("/api/tokens", {"name": "a", "scope": "admin", "partnerId": NOBODY}, "partnerId"),
        ("/api/tokens", {"name": "a", "scope": "read", "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
    ],
)
async def test_a_bad_body_names_the_field(admin: httpx.AsyncClient, path: str, body: Any, field: str) -> None:
    response = await admin.post(path, json=body)

    assert response.status_code == 400, response.text
    assert field in [detail["field"] for detail in response.json()["details"]]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b'"x"', b"null"])
async def test_a_body_that_is_no_object_is_refused(admin: httpx.AsyncClient, body: bytes) -> None:
    response = await admin.post("/api/partners", content=body)

    assert response.status_code == 400
    assert response.json()["correlationId"] == response.headers["X-Correlation-ID"]


@pytest.mark.parametrize(
    "path",
    [
        f"/api/partners/{NOBODY}",
        "/api/partners/no-id",
        f"/api/partnersystems/{NOBODY}",
        f"/api/partnersystems/{NOBODY}/apikeys",
        f"/api/eventstructures/{NOBODY}",
        f"/api/eventstructures/{NOBODY}/versions/1",
        "/api/nothing",
    ],
)
async def test_what_is_not_there_is_404(admin: httpx.AsyncClient, path: str) -> None:
    response = await admin.get(path)

    assert response.status_code == 404, response.text
    assert set(response.json()) >= {"code", "message", "correlationId"}


async def test_a_system_of_an_unknown_partner_is_404(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/api/partnersystems", json={"partnerId": NOBODY, "name": "A", "type": 1})

    assert (response.status_code, response.json()["code"]) == (404, "partner_not_found")


async def test_a_system_comes_with_its_first_key_which_is_never_shown_again(
    admin: httpx.AsyncClient, stack: Stack, services: Services
) -> None:
    system = await a_system(admin)

    assert set(system) == {"id", "partnerId", "name", "type", "description", "apiKey", "isActive"}
    assert len(system["apiKey"]) == len("sk_") + 32
    shown = await admin.get(f"/api/partnersystems/{system['id']}")
    keys = await admin.get(f"/api/partnersystems/{system['id']}/apikeys")
    assert system["apiKey"] not in shown.text + keys.text + services.log("admin")
    [key] = keys.json()["items"]
    assert (key["prefix"], key["lastFour"], key["isUsable"]) == ("sk_", system["apiKey"][-4:], True)
    owner = await stack.write()
    assert await owner.fetchval("select key_sha256 from write.api_keys") == sha256(system["apiKey"].encode()).digest()


async def test_a_key_is_rotated_with_grace_and_revoked(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    path = f"/api/partnersystems/{system['id']}/apikeys"
    [first] = (await admin.get(path)).json()["items"]

    rotated = await admin.post(f"{path}/{first['id']}/rotate", json={"graceSeconds": 60})
    further = await admin.post(path, json={"name": "backend"})
    revoked = await admin.post(f"{path}/{further.json()['id']}/revoke")
    again = await admin.delete(f"{path}/{further.json()['id']}")
    too_late = await admin.post(f"{path}/{further.json()['id']}/rotate")

    assert (rotated.status_code, further.status_code) == (201, 201)
    assert (revoked.status_code, again.status_code) == (204, 204)
    assert (too_late.status_code, too_late.json()["code"]) == (409, "api_key_not_usable")
    keys = {key["id"]: key for key in (await admin.get(path)).json()["items"]}
    assert keys[first["id"]]["expiresAt"] is not None
    assert keys[rotated.json()["id"]]["expiresAt"] is None
    assert keys[further.json()["id"]]["isUsable"] is False
    old, new, void = [
        await cached_key(stack, secret)
        for secret in (system["apiKey"], rotated.json()["apiKey"], further.json()["apiKey"])
    ]
    assert old is not None
    assert old.expires_at is not None
    assert new is not None
    assert new.expires_at is None
    assert void is not None
    assert void.revoked_at is not None


async def test_deactivation_reaches_redis_and_is_published_before_the_answer(
    admin: httpx.AsyncClient, stack: Stack
) -> None:
    partner_id = await a_partner(admin)
    systems = [await a_system(admin, partner_id, f"S{n}") for n in range(3)]
    async with Redis.from_url(stack.redis_url) as redis, redis.pubsub() as pubsub:
        await pubsub.subscribe(cache.INVALIDATION_CHANNEL)
        await pubsub.get_message(timeout=5)

        await admin.post(f"/api/partners/{partner_id}/deactivate")

        heard = [await pubsub.get_message(timeout=2) for _ in systems]
    entries = [await cached_key(stack, system["apiKey"]) for system in systems]
    assert all(entry is not None and not entry.is_partner_active and entry.is_system_active for entry in entries)
    digests = {sha256(system["apiKey"].encode()).hexdigest() for system in systems}
    assert all(any(digest.encode() in message["data"] for message in heard if message) for digest in digests)
    await admin.post(f"/api/partnersystems/{systems[0]['id']}/deactivate")
    await admin.post(f"/api/partners/{partner_id}/activate")
    first = await cached_key(stack, systems[0]["apiKey"])
    assert first is not None
    assert first.is_partner_active
    assert not first.is_system_active


async def test_a_structure_has_versions_that_are_published_and_deprecated(admin: httpx.AsyncClient) -> None:
    created = await admin.post("/api/eventstructures", json={"eventName": "purchase", "schema": SCHEMA})
    path = created.headers["Location"]

    draft = await admin.post(f"{path}/versions", json={"schema": '{"required": ["total"]}', "publish": False})
    twice = await admin.post("/api/eventstructures", json={"eventName": "purchase", "schema": True})
    published = await admin.post(f"{path}/versions/2/publish")
    again = await admin.post(f"{path}/versions/2/publish")
    deprecated = await admin.post(f"{path}/versions/1/deprecate")
    missing = await admin.post(f"{path}/versions/9/publish")

    assert (created.status_code, draft.status_code) == (201, 201)
    assert (draft.json()["version"], draft.json()["status"]) == (2, "draft")
    assert (twice.status_code, twice.json()["code"]) == (409, "event_structure_exists")
    assert published.json()["status"] == "published"
    assert (again.status_code, again.json()["code"]) == (409, "version_not_draft")
    assert deprecated.json()["status"] == "deprecated"
    assert missing.status_code == 404
    shown = (await admin.get(path)).json()
    assert shown["currentVersion"] == 2
    assert [version["schema"] for version in shown["versions"]] == [SCHEMA, {"required": ["total"]}]


async def test_versions_that_are_added_at_once_count_without_gaps(admin: httpx.AsyncClient) -> None:
    created = await admin.post("/api/eventstructures", json={"eventName": "purchase", "schema": SCHEMA})
    path = created.headers["Location"]

    answers = await asyncio.gather(*(admin.post(f"{path}/versions", json={"schema": SCHEMA}) for _ in range(8)))

    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 10))


async def test_a_partners_own_structure_stands_beside_the_global_one(admin: httpx.AsyncClient) -> None:
    partner_id = await a_partner(admin)
    own = f"/api/partners/{partner_id}/eventstructures"
    body = {"eventName": "purchase", "schema": SCHEMA}

    made = [(await admin.post(path, json=body)).status_code for path in ("/api/eventstructures", own, own)]

    assert made == [201, 201, 409]
    assert [item["partnerId"] for item in (await admin.get(own)).json()["items"]] == [partner_id]
    assert [item["partnerId"] for item in (await admin.get("/api/eventstructures")).json()["items"]] == [None]
    unknown = await admin.post(f"/api/partners/{NOBODY}/eventstructures", json=body)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "partner_not_found")


async def test_a_token_opens_what_its_scope_says(admin: httpx.AsyncClient, services: Services, stack: Stack) -> None:
    partner_id = await a_partner(admin)
    made = [
        (await admin.post("/api/tokens", json={"name": "t", **body})).json()
        for body in ({"scope": "admin"}, {"scope": "read"}, {"scope": "read", "partnerId": partner_id})
    ]

    async with httpx.AsyncClient(base_url=services.url("admin")) as anyone:
        statuses = [
            (await anyone.get("/api/partners", headers={"Authorization": f"Bearer {token['token']}"})).status_code
            for token in made
        ]
        assert statuses == [200, 403, 403]
        await admin.delete(f"/api/tokens/{made[0]['id']}")
        revoked = await until(
            lambda: anyone.get("/api/partners", headers={"Authorization": f"Bearer {made[0]['token']}"}),
            lambda response: response.status_code == 401,
            deadline_s=2,
        )
    assert revoked.json()["code"] == "revoked_token"
    async with Redis.from_url(stack.redis_url) as redis:
        key = cache.access_token_cache_key(sha256(made[0]["token"].encode()).hexdigest())
        entry = AccessTokenEntry.decode(await redis.get(key) or b"")
    assert entry is not None
    assert entry.revoked_at is not None
    listed = await admin.get("/api/tokens")
    assert listed.json()["totalCount"] == 4
    assert not any(token["token"] in listed.text + services.log("admin") for token in made)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer tk_nobody", "Basic dGs6", "tk_x"])
async def test_nothing_opens_without_a_good_token(services: Services, header: str) -> None:
    async with httpx.AsyncClient(base_url=services.url("admin")) as anyone:
        response = await anyone.get("/api/partners", headers={"Authorization": header})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_another_first_token_in_the_environment_replaces_the_old_one(stack: Stack) -> None:
    async with running(stack, "admin") as first:
        old = first.admin_token
    async with running(stack, "admin") as second, httpx.AsyncClient(base_url=second.url("admin")) as client:
        statuses = [
            (await client.get("/api/partners", headers={"Authorization": f"Bearer {token}"})).status_code
            for token in (old, second.admin_token)
        ]

    assert statuses == [401, 200]


async def test_a_change_while_redis_is_away_is_told_when_it_is_back(stack: Stack) -> None:
    async with running(stack, "admin", settings={"TRACKING_REDIS_URL": "redis://127.0.0.1:1"}) as services:
        headers = {"Authorization": f"Bearer {services.admin_token}"}
        async with httpx.AsyncClient(base_url=services.url("admin"), headers=headers, timeout=20) as admin:
            system = await a_system(admin)
            response = await admin.post(f"/api/partnersystems/{system['id']}/deactivate")
            assert response.status_code == 200
    assert await cached_key(stack, system["apiKey"]) is None

    async with running(stack, "admin"):
        entry = await until(lambda: cached_key(stack, system["apiKey"]), lambda found: found is not None)

    assert entry is not None
    assert not entry.is_system_active
    owner = await stack.write()
    assert await owner.fetchval("select count(*) from write.domain_events where delivered_at is null") == 0


async def test_what_happened_is_written_down_without_secrets(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    await admin.post(f"/api/partnersystems/{system['id']}/deactivate", headers={"X-Correlation-ID": "why-1"})

    owner = await stack.write()
    rows = await owner.fetch("select name, payload::text as payload, correlation_id from write.domain_events")

    names = [row["name"] for row in rows]
    assert {"PartnerRegistered", "PartnerSystemRegistered", "ApiKeyIssued", "PartnerSystemDeactivated"} <= set(names)
    assert [row["correlation_id"] for row in rows if row["name"] == "PartnerSystemDeactivated"] == ["why-1"]
    assert not any(system["apiKey"] in row["payload"] for row in rows)


async def test_the_documentation_is_valid_openapi_with_examples(services: Services) -> None:
    async with httpx.AsyncClient(base_url=services.url("admin")) as anyone:
        document = (await anyone.get("/openapi/v1.json")).json()

    validate(document)
    assert document["openapi"].startswith("3.1")
    assert '"examples"' in str(document).replace("'", '"')
    assert len(document["paths"]) >= 20
