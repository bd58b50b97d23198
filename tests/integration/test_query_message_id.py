"""Events are found in query's list by the id that their sender gave them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.registry import register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack
from tracking.domain.ids import derive_dated_id, derive_event_id

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
LONG_AGO = datetime(1987, 6, 5, tzinfo=UTC)


def sent(system: System, message_id: str, at: datetime, **given: Any) -> Seen:
    """An event with the id that the gateway derives."""
    return Seen(at, id=derive_event_id(system.id, message_id, at), message_id=message_id, **given)


def sent_before(system: System, message_id: str, at: datetime, original: datetime | None) -> Seen:
    """An event with the id that the gateway derived before names had a place of their own."""
    return Seen(at, id=derive_dated_id(system.id, message_id, original), message_id=message_id)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sees all partners."""
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    async with run_services(stack, "query") as services:
        async with http_client(base_url=services.url("query"), headers=headers) as client:
            yield client


async def find(client: httpx.AsyncClient, system: System, message_id: str, **asked: Any) -> list[str]:
    """The ids of the events that are listed; their number is the one that is said."""
    path = f"/api/events/partner-system/{system.id}"
    response = await client.get(path, params={"messageId": message_id, **asked})
    assert response.status_code == 200, response.text
    listed = [event["eventId"] for event in response.json()["events"]]
    assert "cursor" in asked or response.json()["totalCount"] == len(listed)
    assert all(event["messageId"] == message_id for event in response.json()["events"])
    return listed


async def test_an_event_is_found_by_its_own_message_id_whenever_it_was(client: httpx.AsyncClient, stack: Stack) -> None:
    system, other = await add_system(stack), await add_system(stack)
    ids = {"order-1": LONG_AGO, str(uuid4()): NOON, f"ajs-next-{'0' * 32}": datetime.now(UTC), "ü 'quoted'": NOON}
    for place in (system, other):
        noise = [sent(place, str(uuid4()), NOON + timedelta(minutes=n)) for n in range(200)]
        old = [sent_before(place, "old-1", NOON, NOON), sent_before(place, "old-2", NOON, None)]
        others = [Seen(NOON, message_id="order-1")]
        await add_events(stack, place, [*(sent(place, id_, at) for id_, at in ids.items()), *noise, *old, *others])

    for message_id, at in ids.items():
        assert await find(client, system, message_id) == [str(derive_event_id(system.id, message_id, at))]
    assert await find(client, system, "old-1") == [str(derive_dated_id(system.id, "old-1", NOON))]
    assert await find(client, system, "old-2") == [str(derive_dated_id(system.id, "old-2", None))]
    for unknown in ("order-2", "ORDER-1", "order-1 ", "\u2028"):
        assert await find(client, system, unknown) == []
    assert await find(client, System(), "order-1") == []


async def test_other_filters_and_a_range_hold_beside_a_message_id(client: httpx.AsyncClient, stack: Stack) -> None:
    system = await add_system(stack)
    made_per_call = str(uuid4())
    twice = [
        sent(system, made_per_call, NOON + timedelta(days=n), user_id=f"user_{n}", is_bot=n == 3) for n in range(4)
    ]
    named = sent(system, "named", NOON, name="click", correlation_id="c9")
    await add_events(stack, system, [*twice, named])
    ids = [str(event.id) for event in twice]

    assert await find(client, system, made_per_call) == ids[2::-1]
    assert await find(client, system, made_per_call, includeBots="true", order="asc") == ids
    assert await find(client, system, made_per_call, startDate="2025-12-25", endDate="2025-12-25") == ids[1:2]
    assert await find(client, system, made_per_call, startDate="2025-12-26") == ids[2:3]
    assert await find(client, system, made_per_call, endDate="2025-12-24") == ids[:1]
    assert await find(client, system, made_per_call, userId="user_1") == ids[1:2]
    assert await find(client, system, made_per_call, userId="user_1", mergeIdentities="true") == ids[1:2]
    assert await find(client, system, "named", eventName="click", correlationId="c9", eventType="track") == [
        str(named.id)
    ]
    assert await find(client, system, "named", eventName="view") == []
    assert await find(client, system, "named", endDate="2025-12-23") == []
    page = (
        await client.get(
            f"/api/events/partner-system/{system.id}", params={"messageId": made_per_call, "pageSize": "2"}
        )
    ).json()
    assert await find(client, system, made_per_call, cursor=page["nextCursor"]) == ids[:1]


async def test_what_the_gateway_stores_is_found_by_the_id_it_was_sent_with(stack: Stack) -> None:
    sender, token = await register_system(stack), await add_token(stack)
    sent_ids = {str(uuid4()): "2025-12-24T10:30:00Z", "order-4711": "2025-12-24T10:30:00Z", "no time": None}
    async with run_services(stack, "gateway", "projector", "query") as services:
        async with http_client() as client:
            stored = {}
            for message_id, at in sent_ids.items():
                event = {"eventName": "order", "userId": "u", "messageId": message_id}
                response = await client.post(
                    f"{services.url('gateway')}/api/events/ingest",
                    json=event if at is None else event | {"eventTimestamp": at},
                    headers={"X-Api-Key": sender.api_key},
                )
                stored[message_id] = response.json()["eventId"]
            owner = await stack.read()
            count = "select count(*) from read.tracking_events_read_model"
            await until(lambda: owner.fetchval(count), lambda number: number == len(stored))
            client.headers["Authorization"] = f"Bearer {token}"
            client.base_url = httpx.URL(services.url("query"))
            system = System(id=sender.system_id)
            found = {message_id: await find(client, system, message_id) for message_id in stored}

    assert found == {message_id: [event_id] for message_id, event_id in stored.items()}
