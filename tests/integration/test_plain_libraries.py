"""With a uvicorn and an asyncpg that were not tested, the gateway uses their public interface and answers the same."""

import json
from pathlib import Path
from typing import Any

from tests.support import raw_http
from tests.support.raw_http import RawResponse
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

INGEST, BATCH = b"/api/events/ingest", b"/api/events/batch"
VOLATILE = ("eventId", "receivedAt")


def write_versions(folder: Path) -> None:
    """Metadata that is found before that of the installed packages."""
    for name in ("uvicorn", "asyncpg"):
        metadata = folder / f"{name}-0.0.1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")


def make_requests(sender: Registered) -> list[tuple[str, bytes, dict[str, str], Any]]:
    key = {"X-Api-Key": sender.api_key}
    event = {"eventName": "page_view", "anonymousId": "a"}
    return [
        ("POST", INGEST, key, event),
        ("POST", INGEST, key, {**event, "eventId": "once"}),
        ("POST", INGEST, key, {**event, "eventId": "once"}),
        ("POST", INGEST, key, {**event, "eventName": ""}),
        ("POST", INGEST, key, {**event, "eventProperties": {"nul": "\x00"}}),
        ("POST", INGEST, {**key, "Origin": "https://example.com"}, event),
        ("POST", INGEST, {}, event),
        ("POST", INGEST, {"X-Api-Key": "sk_unknown"}, event),
        ("POST", BATCH, key, {"events": [event, {**event, "eventId": "once"}, {}]}),
        ("POST", b"/v1/track", key, {"event": "clicked", "userId": "u"}),
        ("OPTIONS", INGEST, {"Origin": "https://example.com"}, None),
        ("GET", INGEST, {}, None),
        ("GET", b"/health/live", {}, None),
        ("GET", b"/nowhere", {}, None),
    ]


async def ask(services: ServiceProcesses, method: str, path: bytes, headers: dict[str, str], body: Any) -> RawResponse:
    given = [(name.encode(), value.encode()) for name, value in (headers | {"X-Correlation-ID": "c"}).items()]
    raw = None if body is None else json.dumps(body).encode()
    return await raw_http.exchange(services.url("gateway"), raw_http.request(method, path, given, raw))


def without_volatile(answer: RawResponse) -> tuple[int, dict[str, str], Any]:
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status, headers, forget(answer.json() if answer.body else None)


def forget(value: Any) -> Any:
    if isinstance(value, list):
        return [forget(item) for item in value]
    if isinstance(value, dict):
        return {name: forget(item) for name, item in value.items() if name not in VOLATILE}
    return value


async def test_the_gateway_answers_alike_without_private_members(stack: Stack, tmp_path: Path) -> None:
    write_versions(tmp_path)
    senders = [await register_system(stack), await register_system(stack, "Other")]
    async with run_services(stack, "gateway") as services:
        usual = [without_volatile(await ask(services, *request)) for request in make_requests(senders[0])]
        assert "public interface" not in services.log("gateway")

    async with run_services(stack, "gateway", settings={"PYTHONPATH": str(tmp_path)}) as services:
        plain = [without_volatile(await ask(services, *request)) for request in make_requests(senders[1])]
        assert "uvicorn is 0.0.1, tested was" in services.log("gateway")
        assert "asyncpg is 0.0.1, tested was" in services.log("gateway")

    assert [status for status, _, _ in usual] == [202, 202, 202, 400, 202, 202, 401, 401, 202, 200, 204, 405, 200, 404]
    assert plain == usual
