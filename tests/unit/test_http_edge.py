"""Every answer of an edge, good or bad, has the same shape and a correlation id."""

from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from tracking.domain.errors import NotFound, Unavailable
from tracking.http.edge import EdgeMiddleware
from tracking.http.json_api import render_json


async def good(request: Request) -> Response:
    return render_json({"ok": True})


async def missing(request: Request) -> Response:
    raise NotFound("no_such_thing", "There is no such thing.")


async def away(request: Request) -> Response:
    raise Unavailable("database_unavailable", "Try again.", 2)


async def broken(request: Request) -> Response:
    raise ValueError("sk_secret")


ROUTES = [Route(f"/{handler.__name__}", handler) for handler in (good, missing, away, broken)]


@pytest.fixture(params=[Starlette, Router])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    app: ASGIApp = EdgeMiddleware(request.param(routes=ROUTES), "test")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/missing", 404, "no_such_thing"),
        ("GET", "/away", 503, "database_unavailable"),
        ("GET", "/broken", 500, "internal_error"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/good/", 404, "not_found"),
        ("POST", "/good", 405, "method_not_allowed"),
    ],
)
async def test_every_error_is_the_same_json_object(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path, headers={"X-Correlation-ID": "abc-1"})

    assert response.status_code == status
    assert set(response.json()) == {"code", "message", "correlationId"}
    assert response.json()["code"] == code
    assert response.json()["correlationId"] == response.headers["X-Correlation-ID"] == "abc-1"
    assert "sk_secret" not in response.text


async def test_what_a_status_needs_beside_its_body_is_there(client: httpx.AsyncClient) -> None:
    assert (await client.get("/away")).headers["Retry-After"] == "2"
    assert "GET" in (await client.post("/good")).headers["Allow"]


@pytest.mark.parametrize("given", ["", "a b", "x" * 101, "a\xe4"])
async def test_a_correlation_id_that_could_do_harm_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    response = await client.get("/good", headers={b"X-Correlation-ID": given.encode("latin-1")})

    assert response.status_code == 200
    assert len(response.headers["X-Correlation-ID"]) == 32
