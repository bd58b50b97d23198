"""Web pages read the answers of query if their origin is allowed, and only then."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.read_model import System, add_system, add_token
from tests.support.service_processes import run_services
from tests.support.stack import Stack

ALLOWED = ["https://dashboard.example.com", "http://localhost:3000", "https://a.b.intern.example.com"]
OTHERS = [
    "https://example.com",
    "http://dashboard.example.com",
    "https://dashboard.example.com.evil.example",
    "https://evil-dashboard.example.com",
    "https://dashboard.example.com:8443",
    "https://intern.example.com",
    "null",
]
SETTINGS = {
    "TRACKING_QUERY_ALLOWED_ORIGINS": "https://Dashboard.example.com:443, http://localhost:3000 ,https://*.intern.example.com"
}


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Of query with three allowed origins."""
    async with run_services(stack, "query", settings=SETTINGS) as services:
        async with http_client(base_url=services.url("query")) as client:
            yield client


def of(system: System) -> str:
    return f"/api/events/partner-system/{system.id}"


async def preflight(client: httpx.AsyncClient, path: str, origin: str, method: str = "GET") -> httpx.Response:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,traceparent,x-anything",
    }
    return await client.options(path, headers=asked)


async def test_pages_of_allowed_origins_may_ask_and_read_errors_too(client: httpx.AsyncClient, stack: Stack) -> None:
    path, token = of(await add_system(stack)), await add_token(stack)

    for origin in ALLOWED:
        for method in ("GET", "POST"):
            allowed = await preflight(client, path, origin, method)
            assert allowed.status_code == 200
            assert allowed.headers["Access-Control-Allow-Origin"] == origin
            assert method in allowed.headers["Access-Control-Allow-Methods"]
            named = allowed.headers["Access-Control-Allow-Headers"].lower().replace(" ", "").split(",")
            assert {"authorization", "traceparent", "x-anything"} <= set(named)
            assert int(allowed.headers["Access-Control-Max-Age"]) > 0
        for bearer, asked, status in (
            (token, path, 200),
            (token, f"{path}?pageSize=0", 400),
            ("tk_unknown", path, 401),
        ):
            response = await client.get(asked, headers={"Origin": origin, "Authorization": f"Bearer {bearer}"})
            assert response.status_code == status
            assert response.headers["Access-Control-Allow-Origin"] == origin
            assert response.headers["Access-Control-Allow-Credentials"] == "true"
            assert {"retry-after", "x-correlation-id"} <= {
                name.strip().lower() for name in response.headers["Access-Control-Expose-Headers"].split(",")
            }
            assert "origin" in response.headers["Vary"].lower()


async def test_pages_of_other_origins_are_told_nothing(client: httpx.AsyncClient, stack: Stack) -> None:
    path, token = of(await add_system(stack)), await add_token(stack)

    for origin in OTHERS:
        refused = await preflight(client, path, origin)
        response = await client.get(path, headers={"Origin": origin, "Authorization": f"Bearer {token}"})
        assert (refused.status_code, refused.json()["code"]) == (401, "missing_token")
        assert response.status_code == 200
        for answer in (refused, response):
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]
            assert "origin" in answer.headers["Vary"].lower()
    without = await client.get(path, headers={"Authorization": f"Bearer {token}"})
    assert (without.status_code, "origin" in without.headers["Vary"].lower()) == (200, True)


async def test_no_origin_is_allowed_unless_one_is_named(stack: Stack) -> None:
    path, token = of(await add_system(stack)), await add_token(stack)

    async with run_services(stack, "query") as services:
        async with http_client(base_url=services.url("query")) as client:
            for origin in ALLOWED:
                response = await client.get(path, headers={"Origin": origin, "Authorization": f"Bearer {token}"})
                assert (await preflight(client, path, origin)).status_code == 401
                assert "Access-Control-Allow-Origin" not in response.headers
