"""What each kind of credential may do in each state of its owner: one table for all of them, also after a restart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.admin_api import a_partner, a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

SERVICES = ("gateway", "query", "admin")
DEACTIVATED_PARTNER, DEACTIVATED_SYSTEM = (403, "partner_deactivated"), (403, "system_deactivated")
REVOKED_KEY, REVOKED_TOKEN = (401, "revoked_api_key"), (401, "revoked_token")
SENDS, READS, ADMINISTERS = (202, None), (404, "unknown_event"), (200, None)
Answer = tuple[int, str | None]
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"


@dataclass(slots=True)
class Credentials:
    """Each kind, by name; `system` and `partner_id` are the owners."""

    system: dict[str, Any]
    key: str
    partner_token: str
    read_token: str
    admin_token: str
    ids: dict[str, str] = field(default_factory=dict)


async def issue(admin: httpx.AsyncClient) -> Credentials:
    system = await a_system(admin, await a_partner(admin))
    [key] = (await admin.get(f"/api/partnersystems/{system['id']}/apikeys")).json()["items"]
    tokens = {}
    for name, body in (
        ("partner_token", {"scope": "read", "partnerId": system["partnerId"]}),
        ("read_token", {"scope": "read"}),
        ("admin_token", {"scope": "admin"}),
    ):
        tokens[name] = (await admin.post("/api/tokens", json={"name": name, **body})).json()
    ids = {"key": key["id"], **{name: token["id"] for name, token in tokens.items()}}
    secrets = {name: token["token"] for name, token in tokens.items()}
    return Credentials(system, system["apiKey"], **secrets, ids=ids)


async def _answer(request: httpx.Response) -> Answer:
    return request.status_code, request.json().get("code")


async def ask(services: ServiceProcesses, credentials: Credentials) -> dict[str, Answer]:
    """What each credential gets: the key to send, the tokens to read, and the admin token to administer too."""
    async with http_client(timeout=PATIENCE_S) as client:
        event = {"eventName": "a", "userId": "u"}
        answers = {
            "key": await _answer(
                await client.post(
                    f"{services.url('gateway')}/api/events/ingest", json=event, headers={"X-Api-Key": credentials.key}
                )
            )
        }
        for name in ("partner_token", "read_token", "admin_token"):
            headers = {"Authorization": f"Bearer {getattr(credentials, name)}"}
            answers[name] = await _answer(
                await client.get(f"{services.url('query')}/api/events/{uuid4()}", headers=headers)
            )
        answers["admin"] = await _answer(await client.get(f"{services.url('admin')}/api/partners", headers=headers))
    return answers


def expected(key: Answer = SENDS, partner: Answer = READS, read: Answer = READS, admin: Answer = READS) -> Any:
    administers = ADMINISTERS if admin == READS else admin
    return {"key": key, "partner_token": partner, "read_token": read, "admin_token": admin, "admin": administers}


# The changes in turn, and the answers after each. What ends access is true at once, what begins it within a moment.
STATES = [
    ("as they were issued", [], expected()),
    ("the partner deactivated", ["partner/deactivate"], expected(DEACTIVATED_PARTNER, DEACTIVATED_PARTNER)),
    ("the partner active again", ["partner/activate"], expected()),
    ("the system deactivated", ["system/deactivate"], expected(DEACTIVATED_SYSTEM)),
    ("both deactivated", ["partner/deactivate"], expected(DEACTIVATED_PARTNER, DEACTIVATED_PARTNER)),
    ("the partner active, the system not", ["partner/activate"], expected(DEACTIVATED_SYSTEM)),
    ("both active again", ["system/activate"], expected()),
    ("all revoked", ["revoke"], expected(REVOKED_KEY, REVOKED_TOKEN, REVOKED_TOKEN, REVOKED_TOKEN)),
    (
        "revoked, and the owners deactivated and active again",
        ["partner/deactivate", "system/deactivate", "partner/activate", "system/activate"],
        expected(REVOKED_KEY, REVOKED_TOKEN, REVOKED_TOKEN, REVOKED_TOKEN),
    ),
]


async def change(admin: httpx.AsyncClient, credentials: Credentials, what: str) -> None:
    system = credentials.system
    if what == "revoke":
        key_path = f"/api/partnersystems/{system['id']}/apikeys/{credentials.ids['key']}"
        token_ids = [credentials.ids[name] for name in ("partner_token", "read_token", "admin_token")]
        for path in (key_path, *(f"/api/tokens/{token_id}" for token_id in token_ids)):
            assert (await admin.delete(path)).status_code == 204
        return
    owner, _, action = what.partition("/")
    path = f"/api/partners/{system['partnerId']}" if owner == "partner" else f"/api/partnersystems/{system['id']}"
    assert (await admin.post(f"{path}/{action}")).status_code == 200


async def test_each_credential_does_in_each_state_what_the_table_says(stack: Stack) -> None:
    async with run_services(stack, *SERVICES) as services, administrator(services) as admin:
        credentials = await issue(admin)
        for state, changes, answers in STATES:
            for what in changes:
                await change(admin, credentials, what)
            if not changes or changes[-1].endswith("/activate"):
                await until(partial(ask, services, credentials), answers.__eq__)

            assert await ask(services, credentials) == answers, state


@pytest.mark.parametrize("index", range(1, len(STATES)), ids=[state.replace(" ", "_") for state, _, _ in STATES[1:]])
async def test_a_restart_of_everything_changes_nothing(stack: Stack, index: int) -> None:
    async with run_services(stack, *SERVICES) as services:
        async with administrator(services) as admin:
            credentials = await issue(admin)
            for _, changes, _ in STATES[: index + 1]:
                for what in changes:
                    await change(admin, credentials, what)

        await services.stop(*SERVICES)
        await services.start(*SERVICES)

        assert await ask(services, credentials) == STATES[index][2]


async def test_a_credential_that_is_issued_for_a_deactivated_owner_works_when_that_is_active(stack: Stack) -> None:
    async with run_services(stack, *SERVICES) as services, administrator(services) as admin:
        first = await issue(admin)
        await change(admin, first, "partner/deactivate")
        path = f"/api/partnersystems/{first.system['id']}/apikeys"
        token = {"name": "t", "scope": "read", "partnerId": first.system["partnerId"]}
        first.key = (await admin.post(path, json={"name": "new"})).json()["apiKey"]
        first.partner_token = (await admin.post("/api/tokens", json=token)).json()["token"]

        assert await ask(services, first) == expected(DEACTIVATED_PARTNER, DEACTIVATED_PARTNER)
        await change(admin, first, "partner/activate")

        await until(lambda: ask(services, first), lambda seen: bool(seen == expected()))


@asynccontextmanager
async def query_without_the_write_database(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    settings = {"TRACKING_WRITE_DATABASE_URL": NO_DATABASE}
    async with (
        run_services(stack, "query", settings=settings) as services,
        http_client(base_url=services.url("query"), timeout=PATIENCE_S) as client,
    ):
        yield client


async def test_without_the_write_database_query_goes_by_what_the_relay_replicated(stack: Stack) -> None:
    async with (
        run_services(stack, "admin", "relay") as services,
        administrator(services) as admin,
        query_without_the_write_database(stack) as query,
    ):
        credentials = await issue(admin)

        async def status(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return (await query.get(f"/api/events/{uuid4()}", headers=headers)).status_code

        async def is_answered(token: str, status_code: int) -> None:
            await until(lambda: status(token), lambda seen: seen == status_code)

        await is_answered(credentials.partner_token, 404)
        await change(admin, credentials, "partner/deactivate")
        await is_answered(credentials.partner_token, 401)
        assert await status(credentials.read_token) == 404
        await change(admin, credentials, "partner/activate")
        await is_answered(credentials.partner_token, 404)
        await admin.delete(f"/api/tokens/{credentials.ids['partner_token']}")
        await is_answered(credentials.partner_token, 401)
        await change(admin, credentials, "partner/deactivate")
        await change(admin, credentials, "partner/activate")
        assert await status(credentials.partner_token) == 401
