"""A dry run answers as the real request would, and leaves nothing behind."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.registry import Registered, publish_structure, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

GOOD = {"eventName": "order", "userId": "u", "eventId": "o-1", "eventProperties": {"total": 1}}
INVALID = {"eventName": "order", "userId": "u", "eventId": "o-2", "eventProperties": {"total": "1"}}
NO_EVENT: dict[str, Any] = {"userId": "u"}
BATCH = {"events": [GOOD, INVALID, NO_EVENT, GOOD]}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works; an `order` must have a total."""
    await publish_structure(stack, "order", {"type": "object", "properties": {"total": {"type": "number"}}})
    return await register_system(stack)


@pytest.fixture
async def client(stack: Stack, sender: Registered) -> AsyncIterator[httpx.AsyncClient]:
    """Of a gateway alone."""
    async with (
        run_services(stack, "gateway") as services,
        http_client(base_url=services.url("gateway"), headers={"X-Api-Key": sender.api_key}, timeout=20) as client,
    ):
        yield client


async def stored(stack: Stack) -> int:
    owner = await stack.write()
    return int(
        await owner.fetchval(
            "select (select count(*) from write.tracking_events) + (select count(*) from write.event_batches)"
        )
    )


def without_times(answer: Any) -> Any:
    """Return a response without the values that may differ: the time, and that one was a dry run."""
    return {name: value for name, value in answer.items() if name not in ("receivedAt", "dryRun")}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/events/ingest", GOOD),
        ("/api/events/ingest", INVALID),
        ("/api/events/ingest", NO_EVENT),
        ("/api/events/batch", BATCH),
        ("/v1/track", {"event": "order", "userId": "u", "messageId": "m", "properties": {"total": "x"}}),
        ("/v1/batch", {"batch": [{"type": "track", "event": "e", "userId": "u", "messageId": "m"}, {"type": "odd"}]}),
    ],
)
async def test_a_dry_run_answers_as_the_request_and_stores_nothing(
    stack: Stack, client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    rehearsed = await client.post(path, params={"dryRun": "true"}, json=body)

    assert await stored(stack) == 0
    real = await client.post(path, json=body)
    assert rehearsed.status_code == real.status_code
    if real.is_success:
        assert rehearsed.json()["dryRun"] is True
        assert "dryRun" not in real.json()
        assert without_times(rehearsed.json()) == without_times(real.json())
    else:
        assert rehearsed.json()["code"] == real.json()["code"]


async def test_a_dry_run_knows_what_is_stored_already(stack: Stack, client: httpx.AsyncClient) -> None:
    await client.post("/api/events/ingest", json=GOOD)
    before = await stored(stack)

    single = await client.post("/api/events/ingest", params={"dryRun": "1"}, json=GOOD)
    batch = await client.post("/api/events/batch", params={"dryRun": "true"}, json=BATCH)

    assert single.json()["duplicate"] is True
    assert [result["status"] for result in batch.json()["results"]] == ["duplicate", "accepted", "refused", "duplicate"]
    assert await stored(stack) == before


async def test_a_dry_run_is_in_no_count_of_events(client: httpx.AsyncClient) -> None:
    await client.post("/api/events/batch", params={"dryRun": "true"}, json=BATCH)

    metrics = (await client.get("/metrics")).text
    assert "volcanion_events_ingested_total{" not in metrics
    assert "volcanion_events_validation_failures_total{" not in metrics


async def test_what_is_no_boolean_stores_nothing_either(stack: Stack, client: httpx.AsyncClient) -> None:
    for given in ("yes", "", "True ", "tru"):
        response = await client.post("/api/events/ingest", params={"dryRun": given}, json=GOOD)
        assert response.status_code == 400, given
    assert (await client.post("/api/events/ingest", params={"dryRun": "FALSE"}, json=GOOD)).status_code == 202
    assert await stored(stack) == 2
