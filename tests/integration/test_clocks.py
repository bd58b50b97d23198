"""Clocks of clients: corrected where sentAt proves that one is wrong, and right times are left as they are."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.registry import register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

INGEST, BATCH = "/api/events/ingest", "/api/events/batch"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
NOW = datetime.now(UTC).replace(microsecond=0)
YEAR_AGO = NOW - timedelta(days=365)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Sends to a gateway, with the key of a system in the header."""
    headers = {"X-Api-Key": (await register_system(stack)).api_key}
    async with run_services(stack, "gateway") as services:
        async with http_client(base_url=services.url("gateway"), headers=headers, timeout=20) as client:
            yield client


def to_text(at: Any) -> Any:
    return at.isoformat() if isinstance(at, datetime) else at


def an_event(**times: Any) -> dict[str, Any]:
    return {"eventName": "e", "userId": "u"} | {name: to_text(at) for name, at in times.items()}


def a_message(**times: Any) -> dict[str, Any]:
    return {"type": "track", "event": "e", "userId": "u"} | {name: to_text(at) for name, at in times.items()}


async def read_times(stack: Stack) -> list[tuple[datetime, datetime, bool]]:
    """Event timestamp, the client's own time, and whether the clock was corrected; of all events."""
    owner = await stack.write()
    rows = await owner.fetch("select event_timestamp, original_timestamp, clock_adjusted from write.tracking_events")
    return [tuple(row) for row in rows]


async def test_a_clock_that_is_off_is_corrected_and_its_own_time_kept(client: httpx.AsyncClient, stack: Stack) -> None:
    wrong = NOW - timedelta(days=400)
    single = an_event(eventTimestamp=wrong - HOUR, sentAt=wrong)
    messages = [a_message(originalTimestamp=wrong - HOUR), a_message(timestamp=wrong - HOUR)]

    await client.post(INGEST, json=single)
    await client.post(BATCH, json={"sentAt": wrong.isoformat(), "events": [an_event(eventTimestamp=wrong - HOUR)]})
    await client.post("/v1/batch", json={"sentAt": wrong.isoformat(), "batch": messages})

    times = await read_times(stack)
    assert len(times) == 4
    for event_timestamp, original, is_adjusted in times:
        # the module was loaded before all tests that run earlier
        assert abs(event_timestamp - (datetime.now(UTC) - HOUR)) < 5 * MINUTE
        assert (original, is_adjusted) == (wrong - HOUR, True)


async def test_a_sent_at_before_the_event_proves_nothing(client: httpx.AsyncClient, stack: Stack) -> None:
    for at in (NOW - MINUTE, NOW - 5 * HOUR):
        await client.post(INGEST, json=an_event(eventTimestamp=at, sentAt=at - 2 * HOUR))
        await client.post("/v1/track", json=a_message(timestamp=at, sentAt=at - timedelta(days=30)))

    assert {(at == original, is_adjusted) for at, original, is_adjusted in await read_times(stack)} == {(True, False)}


@pytest.mark.parametrize("mark", [{}, {"receivedAt": (NOW - HOUR).isoformat()}])
async def test_a_message_that_was_passed_on_keeps_the_time_that_was_corrected_before(
    client: httpx.AsyncClient, stack: Stack, mark: dict[str, str]
) -> None:
    # of a client two hours behind, sent an hour ago to a service that passes it on now
    message = a_message(originalTimestamp=NOW - 4 * HOUR, timestamp=NOW - 2 * HOUR, sentAt=NOW - 3 * HOUR, **mark)

    await client.post("/v1/track", json=message)
    await client.post("/v1/batch", json={"batch": [message], "sentAt": (NOW - 3 * HOUR).isoformat()})

    assert await read_times(stack) == [(NOW - 2 * HOUR, NOW - 4 * HOUR, False)] * 2


async def test_a_message_that_came_through_a_service_is_not_moved(client: httpx.AsyncClient, stack: Stack) -> None:
    times = {"sentAt": NOW - 3 * HOUR, "receivedAt": NOW - 3 * HOUR}

    await client.post("/v1/track", json=a_message(timestamp=NOW - 4 * HOUR, **times))
    await client.post("/v1/track", json=a_message(originalTimestamp=NOW - 4 * HOUR, **times))
    await client.post(INGEST, json=an_event(eventTimestamp=NOW - 4 * HOUR, **times))

    assert await read_times(stack) == [(NOW - 4 * HOUR, NOW - 4 * HOUR, False)] * 3


async def test_an_archive_keeps_its_times(client: httpx.AsyncClient, stack: Stack) -> None:
    message, event = a_message(timestamp=YEAR_AGO, sentAt=YEAR_AGO), an_event(eventTimestamp=YEAR_AGO, sentAt=YEAR_AGO)
    sent_at = YEAR_AGO.isoformat()

    for path, body in (
        ("/v1/import", {"batch": [message], "sentAt": sent_at}),
        ("/v1/import", [message]),
        ("/v1/batch", {"batch": [message], "sentAt": sent_at, "historical": True}),
        ("/v1/batch", {"batch": [message | {"historical": True}], "sentAt": sent_at}),
        ("/v1/track", message | {"historical": True}),
        (INGEST, event | {"historical": True}),
        (BATCH, {"events": [event], "sentAt": sent_at, "historical": True}),
        (BATCH, [event | {"historical": True}]),
    ):
        assert (await client.post(path, json=body)).status_code in (200, 202)

    assert await read_times(stack) == [(YEAR_AGO, YEAR_AGO, False)] * 8


async def test_a_readable_time_stands_for_one_that_is_not(client: httpx.AsyncClient, stack: Stack) -> None:
    await client.post("/v1/track", json=a_message(timestamp="soon", originalTimestamp=NOW - HOUR))

    assert await read_times(stack) == [(NOW - HOUR, NOW - HOUR, False)]
