"""Only health, metrics and documentation answer without a key or token, and nobody sees the data of another partner."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.support.admin_api import a_partner, administrator
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.registry import register_system
from tests.support.routes import OPEN, SCRIPT, SDK_SETTINGS, filled, http_services, routes
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
DECEMBER = {"startDate": "2025-12-01", "endDate": "2025-12-31"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """The three HTTP services."""
    async with run_services(stack, "gateway", "admin", "query") as services:
        yield services


async def statuses(url: str, asked: list[tuple[str, str]], headers: dict[str, str] | None = None) -> dict[Any, int]:
    async with http_client(base_url=url, timeout=20, headers=headers) as client:
        answers = [await client.request(method, path) for method, path in asked]
    return {pair: answer.status_code for pair, answer in zip(asked, answers, strict=True)}


def closed(service: str) -> list[tuple[str, str]]:
    """The routes that need a key or token, with values for their parameters."""
    found = routes(http_services()[service])
    assert {path for _, path in found} >= OPEN
    # a preflight has no key, and what SDKs fetch before they send tells nothing of anybody
    free = OPEN | SDK_SETTINGS | {SCRIPT}
    return sorted((method, filled(path)) for method, path in found if path not in free and method != "OPTIONS")


def test_the_routes_are_found() -> None:
    found = {service: routes(app) for service, app in http_services().items()}

    assert {path for _, path in found["gateway"]} >= {"/api/events/ingest", "/api/events/batch"}
    assert ("DELETE", "/api/tokens/{id}") in found["admin"]
    assert ("GET", "/api/events/{eventId}") in found["query"]
    for service, known in found.items():
        assert {method for method, path in known if path in OPEN} == {"GET"}, service


@pytest.mark.parametrize("service", ["gateway", "admin", "query"])
async def test_no_route_answers_without_a_key_or_token(services: ServiceProcesses, stack: Stack, service: str) -> None:
    key = (await register_system(stack)).api_key
    url, asked = services.url(service), closed(service)
    wrong: list[dict[str, str]] = [{}, {"Authorization": "Bearer tk_" + "a" * 32}, {"Authorization": "Bearer"}]
    if service == "gateway":
        wrong += [{"X-Api-Key": services.admin_token}, {"Authorization": f"Bearer {services.admin_token}"}]
    else:
        wrong += [{"Authorization": f"Bearer {key}"}, {"X-Api-Key": key}]

    for headers in wrong:
        answers = await statuses(url, asked, headers)
        # the gateway decides by the key in the body too, so it reads that first
        expected = {400, 401} if service == "gateway" else {401}
        assert set(answers.values()) <= expected, (headers, answers)

    assert set((await statuses(url, [("GET", path) for path in sorted(OPEN)])).values()) == {200}


async def test_the_gateway_takes_no_event_without_a_good_key(services: ServiceProcesses, stack: Stack) -> None:
    event = {"eventName": "a", "userId": "u"}
    async with http_client(base_url=services.url("gateway"), timeout=20) as client:
        for headers in ({}, {"X-Api-Key": "sk_" + "a" * 32}, {"X-Api-Key": services.admin_token}, {"X-Api-Key": ""}):
            for path, body in (("/api/events/ingest", event), ("/api/events/batch", [event])):
                assert (await client.post(path, json=body, headers=headers)).status_code == 401

    owner = await stack.write()
    assert await owner.fetchval("select count(*) from write.tracking_events") == 0


@pytest.mark.parametrize("service", ["admin", "query"])
async def test_no_spelling_of_a_path_and_no_method_opens_it(services: ServiceProcesses, service: str) -> None:
    prefixes = [
        "/health/../",
        "/metrics/../",
        "/openapi/../",
        "/scalar/..%2f",
        "/health/%2e%2e/",
        "//",
        "/./",
        "/health/",
    ]
    for _, path in closed(service):
        for prefix in prefixes:
            status = await _raw_status(services.url(service), "GET", prefix + path[1:])
            assert status in (401, 404), (prefix, path, status)
        for method in METHODS:
            assert await _raw_status(services.url(service), method, path) == 401, (method, path)
        assert await _raw_status(services.url(service), "GET", quote(path).replace("a", "%61")) == 401, path


async def _raw_status(url: str, method: str, target: str) -> int:
    """The status for a request line that no client would tidy up."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_S):
        line = await reader.readline()
    writer.close()
    return int(line.split()[1])


async def test_a_token_that_reads_may_administer_nothing(services: ServiceProcesses) -> None:
    async with administrator(services) as admin:
        partner = await a_partner(admin)
        before = (await admin.get("/api/partners")).json()["totalCount"]
        for body in ({"scope": "read"}, {"scope": "read", "partnerId": partner}):
            token = (await admin.post("/api/tokens", json={"name": "t", **body})).json()["token"]
            asked = [(method, filled(path, id=partner)) for method, path in closed("admin")]

            answers = await statuses(services.url("admin"), asked, {"Authorization": f"Bearer {token}"})

            assert set(answers.values()) == {403}, answers
        assert (await admin.get("/api/partners")).json()["totalCount"] == before


async def test_every_route_of_query_hides_what_is_another_partners(services: ServiceProcesses, stack: Stack) -> None:
    mine, other = await add_system(stack), await add_system(stack)
    events = {
        system: [Seen(NOON + timedelta(minutes=n), user_id="u", name="n") for n in range(5)] for system in (mine, other)
    }
    for system, seen in events.items():
        await add_events(stack, system, seen)
    everything, token = await add_token(stack, "admin"), await add_token(stack, partner_id=mine.partner_id)

    async def ask(path: str, token: str, parameters: dict[str, Any]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "X-Correlation-ID": "same"}
        async with http_client(base_url=services.url("query"), timeout=20) as client:
            return await client.get(path, headers=headers, params=parameters)

    async def cursor(system: System, token: str, **filters: str) -> str:
        path = f"/api/events/partner-system/{system.id}"
        answer = await ask(path, token, {**DECEMBER, **filters, "pageSize": 2})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["nextCursor"])

    questions: list[dict[str, Any]] = [
        {},
        DECEMBER,
        {**DECEMBER, "pageNumber": 2, "pageSize": 2},
        {**DECEMBER, "userId": "u"},
        {**DECEMBER, "eventName": "n", "isValid": "true"},
        {**DECEMBER, "correlationId": "c1", "anonymousId": "anon_1"},
        {**DECEMBER, "cursor": await cursor(other, everything)},
        {**DECEMBER, "userId": "u", "cursor": await cursor(other, everything, userId="u")},
        {**DECEMBER, "cursor": await cursor(mine, token)},
        {"startDate": "nonsense"},
        {"pageSize": -1},
    ]
    templates = [path for _, path in routes(http_services()["query"]) if path not in OPEN]
    assert len(templates) >= 3
    for template in templates:
        for parameters in questions:
            theirs = filled(template, partnerSystemId=other.id, eventId=events[other][0].id)
            hidden = await ask(theirs, token, parameters)
            missing = await ask(filled(template), token, parameters)

            assert hidden.status_code == missing.status_code == 404, (template, parameters, hidden.text)
            assert hidden.json() == missing.json()
            assert (await ask(theirs, everything, {})).status_code == 200
        assert (
            await ask(filled(template, partnerSystemId=mine.id, eventId=events[mine][0].id), token, {})
        ).status_code == 200


async def test_a_cursor_of_another_system_shows_nothing_of_it(services: ServiceProcesses, stack: Stack) -> None:
    mine, other = await add_system(stack), await add_system(stack)
    for system in (mine, other):
        await add_events(stack, system, [Seen(NOON + timedelta(minutes=n)) for n in range(3)])
    token = await add_token(stack, partner_id=mine.partner_id)
    async with http_client(base_url=services.url("query"), timeout=20) as client:
        everything = {"Authorization": f"Bearer {await add_token(stack)}"}
        listed = f"/api/events/partner-system/{other.id}"
        cursor = (await client.get(listed, headers=everything, params={**DECEMBER, "pageSize": 1})).json()["nextCursor"]

        answer = await client.get(
            f"/api/events/partner-system/{mine.id}",
            headers={"Authorization": f"Bearer {token}"},
            params={**DECEMBER, "pageSize": 1, "cursor": cursor},
        )

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
    assert str(other.id) not in answer.text


async def test_statistics_in_the_cache_are_not_shared_with_another_partner(
    services: ServiceProcesses, stack: Stack
) -> None:
    system = await add_system(stack)
    await add_events(stack, system, [Seen(NOON)])
    path = f"/api/events/partner-system/{system.id}/statistics"
    tokens = [await add_token(stack), await add_token(stack, partner_id=(await add_system(stack)).partner_id)]
    async with http_client(base_url=services.url("query"), timeout=20, params=DECEMBER) as client:
        answers = [
            (await client.get(path, headers={"Authorization": f"Bearer {token}"})).status_code
            for token in (tokens[0], tokens[0], tokens[1])
        ]

    assert answers == [200, 200, 404]


async def test_a_worker_answers_nothing_but_health_and_metrics(stack: Stack) -> None:
    workers = ("relay", "projector", "statistics")
    async with run_services(stack, *workers) as services:
        for worker in workers:
            for path in ("/", "/api/partners", "/api/events/ingest", "/openapi/v1.json", "/docs", "/health", "/debug"):
                for method in ("GET", "POST", "DELETE"):
                    assert await _raw_status(services.url(worker), method, path) == 404, (worker, path)
            assert await _raw_status(services.url(worker), "POST", "/metrics") == 405
