"""Where a sender's key may stand: in a header, the query or the body, on every route, beside what else a site sends."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

EVENT = {"eventName": "x", "userId": "u"}
MESSAGE = {"type": "track", "event": "x", "userId": "u"}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Of a gateway alone."""
    async with (
        run_services(stack, "gateway") as services,
        http_client(base_url=services.url("gateway"), timeout=20) as client,
    ):
        yield client


@pytest.mark.parametrize("name", ["apiKey", "writeKey"])
async def test_the_body_of_every_route_may_hold_the_key(
    client: httpx.AsyncClient, sender: Registered, name: str
) -> None:
    key = {name: sender.api_key}
    bodies: dict[str, list[Any]] = {
        "/api/events/ingest": [EVENT | key],
        "/api/events/batch": [{"events": [EVENT]} | key, [EVENT | key, EVENT], EVENT | key],
        "/v1/track": [MESSAGE | key],
        "/v1/identify": [{"userId": "u"} | key],
        "/v1/batch": [{"batch": [MESSAGE]} | key, [MESSAGE | key, MESSAGE], MESSAGE | key],
        "/v1/import": [{"batch": [MESSAGE]} | key],
        "/v1/beacon": [{"batch": [MESSAGE]} | key],
    }

    for path, given in bodies.items():
        for body in given:
            answer = await client.post(path, content=json.dumps(body))
            assert answer.status_code in (200, 202), (path, body, answer.text)
            assert answer.json().get("refused", 0) == 0
            assert answer.json().get("isValid", True), answer.text
            assert answer.json().get("invalid", 0) == 0, answer.text
    lines = "\n".join(json.dumps(EVENT | key) for _ in range(3))
    assert (await client.post("/api/events/batch", content=lines)).json()["accepted"] == 3


@pytest.mark.parametrize("own", [("admin", "secret"), ("editor", ""), ("a:b", "c")])
async def test_a_sites_own_password_does_not_hide_the_key(
    client: httpx.AsyncClient, sender: Registered, own: tuple[str, str]
) -> None:
    for path, body in (("/v1/track", MESSAGE), ("/v1/batch", {"batch": [MESSAGE]}), ("/v1/beacon", [MESSAGE])):
        by_query = await client.post(path, params={"writeKey": sender.api_key}, json=body, auth=own)
        assert by_query.status_code == 200, by_query.text
    in_body = await client.post("/v1/track", json=MESSAGE | {"writeKey": sender.api_key}, auth=own)
    in_header = await client.post("/v1/track", json=MESSAGE, headers={"X-Api-Key": sender.api_key}, auth=own)
    token = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}
    beside_a_token = await client.post("/v1/track", params={"apiKey": sender.api_key}, json=MESSAGE, headers=token)

    assert [answer.status_code for answer in (in_body, in_header, beside_a_token)] == [200, 200, 200]


async def test_the_key_in_authorization_wins_over_one_in_the_query(
    client: httpx.AsyncClient, sender: Registered
) -> None:
    good = await client.post("/v1/track", params={"writeKey": "nobody"}, json=MESSAGE, auth=(sender.api_key, ""))
    unknown = await client.post("/v1/track", json=MESSAGE, auth=("admin", "secret"))
    made_up = await client.post("/v1/track", json=MESSAGE | {"writeKey": sender.api_key}, auth=(f"sk_{'x' * 32}", ""))

    assert good.status_code == 200
    assert (unknown.status_code, unknown.json()["code"]) == (401, "unknown_api_key")
    assert (made_up.status_code, made_up.json()["code"]) == (401, "unknown_api_key")
