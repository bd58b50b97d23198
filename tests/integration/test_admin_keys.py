"""API keys through the administration."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest

from tests.support.admin_api import NOBODY, a_system, administrator, cached_key
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack


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


async def test_a_system_comes_with_its_first_key_which_is_never_shown_again(
    admin: httpx.AsyncClient, stack: Stack, services: ServiceProcesses
) -> None:
    system = await a_system(admin)

    assert len(system["apiKey"]) == len("sk_") + 32
    shown = await admin.get(f"/api/partnersystems/{system['id']}")
    keys = await admin.get(f"/api/partnersystems/{system['id']}/apikeys")
    assert system["apiKey"] not in shown.text + keys.text + services.log("admin")
    [key] = keys.json()["items"]
    assert (key["prefix"], key["lastFour"], key["isUsable"]) == ("sk_", system["apiKey"][-4:], True)
    owner = await stack.write()
    assert await owner.fetchval("select key_sha256 from write.api_keys") == sha256(system["apiKey"].encode()).digest()


async def test_a_further_key_has_a_name_and_an_expiry(admin: httpx.AsyncClient) -> None:
    path = f"/api/partnersystems/{(await a_system(admin))['id']}/apikeys"

    plain = await admin.post(path)
    named = await admin.post(path, json={"name": "backend", "expiresAt": "2100-01-01T02:00:00+02:00"})

    assert (plain.status_code, plain.json()["expiresAt"]) == (201, None)
    assert (named.status_code, named.json()["name"]) == (201, "backend")
    assert named.json()["expiresAt"] == "2100-01-01T00:00:00Z"
    shown = (await admin.get(named.headers["Location"])).json()
    assert (shown["id"], shown["lastFour"], shown["isUsable"]) == (
        named.json()["id"],
        named.json()["apiKey"][-4:],
        True,
    )
    assert (await admin.get(path)).json()["totalCount"] == 3


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


async def test_rotations_of_one_key_at_once_leave_no_key_behind(admin: httpx.AsyncClient, stack: Stack) -> None:
    system = await a_system(admin)
    path = f"/api/partnersystems/{system['id']}/apikeys"
    [first] = (await admin.get(path)).json()["items"]

    answers = await asyncio.gather(
        *(admin.post(f"{path}/{first['id']}/rotate", json={"graceSeconds": 0}) for _ in range(5))
    )

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    old = await cached_key(stack, system["apiKey"])
    assert old is not None
    assert old.expires_at is not None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"expiresAt": "2100-01-01T00:00:00"}, "expiresAt"),
        ({"expiresAt": "9999-12-31T23:59:59-14:00"}, "expiresAt"),
        ({"expiresAt": "soon"}, "expiresAt"),
        ({"apiKey": "sk_mine"}, "apiKey"),
    ],
)
async def test_a_bad_key_names_the_field(admin: httpx.AsyncClient, body: dict[str, str], field: str) -> None:
    path = f"/api/partnersystems/{(await a_system(admin))['id']}/apikeys"

    response = await admin.post(path, json=body)

    assert response.status_code == 400, response.text
    assert [detail["field"] for detail in response.json()["details"]] == [field]


async def test_a_grace_has_bounds(admin: httpx.AsyncClient) -> None:
    path = f"/api/partnersystems/{(await a_system(admin))['id']}/apikeys"
    [key] = (await admin.get(path)).json()["items"]

    for grace in (-1, 90 * 86400 + 1, "x", 10**30):
        response = await admin.post(f"{path}/{key['id']}/rotate", json={"graceSeconds": grace})
        assert (response.status_code, response.json()["details"][0]["field"]) == (400, "graceSeconds")


async def test_the_key_of_another_system_is_not_there(admin: httpx.AsyncClient) -> None:
    mine, other = await a_system(admin), await a_system(admin)
    [key] = (await admin.get(f"/api/partnersystems/{other['id']}/apikeys")).json()["items"]

    for key_id in (key["id"], NOBODY, "no-id"):
        path = f"/api/partnersystems/{mine['id']}/apikeys/{key_id}"
        answers = [await admin.get(path), await admin.delete(path)]
        answers += [await admin.post(f"{path}/{verb}") for verb in ("rotate", "revoke")]
        assert {answer.status_code for answer in answers} == {404}
    unknown = f"/api/partnersystems/{NOBODY}/apikeys"
    assert {(await admin.get(unknown)).status_code, (await admin.post(unknown)).status_code} == {404}
