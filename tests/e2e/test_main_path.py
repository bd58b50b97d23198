"""The main path through the public ports alone: partner, partner system, event, list, statistics, and deactivation."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.polling import takes_effect, until
from tests.support.routes import SDK_SETTINGS
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

ALL = ("gateway", "relay", "projector", "statistics", "admin", "query")
DECEMBER = {"startDate": "2025-12-01T00:00:00Z", "endDate": "2025-12-31T23:59:59Z"}


class Product:
    """The running system as a customer sees it."""

    def __init__(self, services: ServiceProcesses, client: httpx.AsyncClient) -> None:
        self.services = services
        self._client = client
        self._bearer = {"Authorization": f"Bearer {services.admin_token}"}

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        """An administration call that must succeed."""
        response = await self._client.request(
            method, self.services.url("admin") + path, json=body, headers=self._bearer
        )
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def query(self, path: str, token: str | None = None, **parameters: Any) -> httpx.Response:
        """An analytics call."""
        bearer = self._bearer if token is None else {"Authorization": f"Bearer {token}"}
        return await self._client.get(self.services.url("query") + path, params=parameters, headers=bearer)

    async def ingest(self, api_key: str, **event: Any) -> httpx.Response:
        """One event."""
        body = {"apiKey": api_key, "eventName": "page_view", "anonymousId": "visitor_123", **event}
        return await self._client.post(self.services.url("gateway") + "/api/events/ingest", json=body)

    async def batch(self, api_key: str, events: list[dict[str, Any]]) -> Any:
        """Many events, all of which must be taken."""
        response = await self._client.post(
            self.services.url("gateway") + "/api/events/batch", json={"apiKey": api_key, "events": events}
        )
        assert response.status_code == 202, response.text
        return response.json()

    async def system(self, email: str = "test@example.com", name: str = "Test Website") -> tuple[str, str, str]:
        """A new partner's new system: its partner's id, its id, its key."""
        partner = await self.admin("POST", "/api/partners", {"name": "Test Partner", "email": email})
        system = await self.admin(
            "POST",
            "/api/partnersystems",
            {"partnerId": partner["id"], "name": name, "type": 1, "description": "Test tracking"},
        )
        return partner["id"], system["id"], system["apiKey"]

    async def statistics(self, system_id: str, **parameters: Any) -> Any:
        """An answer of the statistics route."""
        response = await self.query(f"/api/events/partner-system/{system_id}/statistics", **parameters)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
async def product(stack: Stack) -> AsyncIterator[Product]:
    """All six services; what a gateway knows of a key ends only when it hears of a change."""
    settings = {"TRACKING_CACHE_TTL_S": "600"}
    async with run_services(stack, *ALL, settings=settings) as services, http_client(timeout=20) as client:
        yield Product(services, client)


async def test_the_specifications_examples_give_the_specified_answers(product: Product) -> None:
    partner = await product.admin("POST", "/api/partners", {"name": "Acme Corp", "email": "admin@acme.com"})
    system = await product.admin(
        "POST",
        "/api/partnersystems",
        {"partnerId": partner["id"], "name": "Acme Website", "type": 1, "description": "Main corporate website"},
    )
    sent = await product.ingest(
        system["apiKey"],
        eventTimestamp="2025-12-24T10:30:00Z",
        userId=None,
        eventProperties='{"page": "/home"}',
    )

    assert set(partner) >= {"id", "name", "email", "isActive"}
    assert (partner["name"], partner["email"], partner["isActive"]) == ("Acme Corp", "admin@acme.com", True)
    assert set(system) == {"id", "partnerId", "name", "type", "description", "apiKey", "isActive"}
    assert system["apiKey"].startswith("sk_")
    assert sent.status_code == 202
    assert sent.json()["isValid"] is True
    statistics = await until(
        lambda: product.statistics(system["id"], **DECEMBER), lambda answer: answer["totalEvents"] == 1
    )
    assert {name: statistics[name] for name in statistics if name != "meta"} == {
        "partnerSystemId": system["id"],
        "totalEvents": 1,
        "validEvents": 1,
        "invalidEvents": 0,
        "eventCounts": {"page_view": 1},
        "startDate": "2025-12-01T00:00:00Z",
        "endDate": "2025-12-31T23:59:59Z",
    }
    listed = await until(
        lambda: product.query(f"/api/events/partner-system/{system['id']}", **DECEMBER, pageNumber=1, pageSize=100),
        lambda response: bool(response.json()["events"]),
    )
    page = listed.json()
    assert (page["totalCount"], page["pageNumber"], page["pageSize"]) == (1, 1, 100)
    [event] = page["events"]
    assert event["eventId"] == sent.json()["eventId"]
    assert event["eventProperties"] == {"page": "/home"}
    assert (event["partnerName"], event["systemName"]) == ("Acme Corp", "Acme Website")
    single = await product.query(f"/api/events/{event['eventId']}")
    assert single.json()["eventId"] == event["eventId"]


async def test_a_burst_is_counted_exactly_and_listed_once_by_number_and_by_cursor(product: Product) -> None:
    await product.admin(
        "POST",
        "/api/eventstructures",
        {"eventName": "purchase", "schema": {"type": "object", "required": ["price"]}, "publish": True},
    )
    _, system_id, api_key = await product.system()

    def an_event(n: int) -> dict[str, Any]:
        return {
            "eventName": ("page_view", "click", "purchase")[n % 3],
            "eventTimestamp": f"2025-12-{n % 28 + 1:02d}T{n % 24:02d}:{n % 60:02d}:00Z",
            "userId": f"user_{n % 7}",
            "eventProperties": {"n": n} if n % 2 else {"n": n, "price": n},
            "eventId": f"e{n}",
        }

    async def is_known() -> bool:
        answer = await product.ingest(api_key, eventName="purchase", eventProperties={}, eventId="probe")
        return not answer.json()["isValid"]

    await until(is_known, bool)
    answers = await asyncio.gather(
        *(product.batch(api_key, [an_event(n) for n in range(start, start + 100)]) for start in range(0, 1000, 100))
    )
    assert sum(answer["accepted"] for answer in answers) == 1000
    sent_at = datetime.now(UTC)

    statistics = await until(
        lambda: product.statistics(system_id, **DECEMBER), lambda answer: answer["totalEvents"] == 1000
    )
    assert statistics["eventCounts"] == {"page_view": 334, "click": 333, "purchase": 333}
    assert statistics["invalidEvents"] == sum(1 for n in range(1000) if n % 3 == 2 and n % 2)
    path = f"/api/events/partner-system/{system_id}"
    # the counts may be ahead of the rows: meta says when everything that was sent is in both
    first = await until(
        lambda: product.query(path, **DECEMBER, pageSize=64),
        lambda response: datetime.fromisoformat(response.json()["meta"]["asOf"]) > sent_at,
    )
    assert first.json()["totalCount"] == 1000
    by_cursor, page = list(first.json()["events"]), first.json()
    while page["nextCursor"]:
        page = (await product.query(path, **DECEMBER, pageSize=64, cursor=page["nextCursor"])).json()
        by_cursor.extend(page["events"])
    by_number: list[Any] = []
    for number in range(1, 17):
        by_number.extend((await product.query(path, **DECEMBER, pageSize=64, pageNumber=number)).json()["events"])
    ids = [event["eventId"] for event in by_cursor]
    assert len(set(ids)) == len(ids) == 1000
    assert [event["eventId"] for event in by_number] == ids


async def test_a_deactivated_system_is_rejected_within_a_second(product: Product) -> None:
    partner_id, system_id, api_key = await product.system()
    assert (await product.ingest(api_key)).status_code == 202

    async def status() -> int:
        return (await product.ingest(api_key)).status_code

    for path in (f"/api/partnersystems/{system_id}", f"/api/partners/{partner_id}"):

        def turn(what: str, path: str = path) -> Awaitable[Any]:
            return product.admin("POST", f"{path}/{what}")

        async def is_refused() -> bool:
            return await status() == 403

        async def is_taken() -> bool:
            return await status() == 202

        await takes_effect(1, lambda: turn("deactivate"), lambda: turn("activate"), is_refused)
        await takes_effect(1, lambda: turn("activate"), lambda: turn("deactivate"), is_taken)


async def test_a_rotated_key_works_at_once_and_the_old_one_until_its_grace_ends(product: Product) -> None:
    _, system_id, old = await product.system()
    [key] = [
        key
        for key in (await product.admin("GET", f"/api/partnersystems/{system_id}/apikeys"))["items"]
        if key["revokedAt"] is None
    ]

    rotated = await product.admin(
        "POST", f"/api/partnersystems/{system_id}/apikeys/{key['id']}/rotate", {"graceSeconds": 1}
    )

    assert (await product.ingest(rotated["apiKey"])).status_code == 202
    await until(lambda: product.ingest(old), lambda response: response.status_code == 401)
    assert (await product.ingest(rotated["apiKey"])).status_code == 202


async def test_a_read_token_sees_its_partner_and_nobody_else(product: Product) -> None:
    partner_id, own, api_key = await product.system("one@example.com")
    _, others, _ = await product.system("two@example.com")
    sent = await product.ingest(api_key, eventTimestamp="2025-12-24T10:30:00Z")
    await until(lambda: product.statistics(own, **DECEMBER), lambda answer: answer["totalEvents"] == 1)

    token = (await product.admin("POST", "/api/tokens", {"name": "r", "scope": "read", "partnerId": partner_id}))[
        "token"
    ]
    stranger = (await product.admin("POST", "/api/tokens", {"name": "s", "scope": "read"}))["token"]

    path = "/api/events/partner-system/"
    await until(
        lambda: product.query(f"{path}{own}/statistics", token, **DECEMBER),
        lambda response: response.status_code == 200,
    )
    for hidden in (f"{path}{others}", f"{path}{others}/statistics"):
        assert (await product.query(hidden, token, **DECEMBER)).status_code == 404
        assert (await product.query(hidden, stranger, **DECEMBER)).status_code == 200
    assert (await product.query(f"/api/events/{sent.json()['eventId']}", token)).status_code == 200
    assert (await product.query(f"{path}{own}", "tk_nobody")).status_code == 401


async def test_nothing_but_health_metrics_and_documentation_is_open(product: Product) -> None:
    async with http_client(timeout=20) as anyone:
        for service in ALL:
            for path in ("/health/live", "/health/ready", "/metrics"):
                assert (await anyone.get(product.services.url(service) + path)).status_code == 200, (service, path)
        for service in ("gateway", "admin", "query"):
            document = (await anyone.get(product.services.url(service) + "/openapi/v1.json")).json()
            page = await anyone.get(product.services.url(service) + "/scalar/v1")
            assert "/openapi/v1.json" in page.text[:3000]
            for path, operations in document["paths"].items():
                for method in operations:
                    url = product.services.url(service) + path.replace("{", "").replace("}", "")
                    body = {"eventName": "a", "userId": "u", "events": []} if service == "gateway" else None
                    response = await anyone.request(method, url, json=body)
                    if path == "/v1/tracker.js" or path in SDK_SETTINGS:
                        assert response.status_code == (400 if path == "/sourceConfig" else 200)
                        continue
                    assert response.status_code == 401, (service, method, path, response.text)
                    if path == "/v1/pixel":
                        assert response.headers["x-error-code"] == "missing_api_key"
                        continue
                    assert set(response.json()) >= {"code", "message", "correlationId"}
