"""The Python client sends to a real gateway, from threads and asyncio. Each event is stored once despite failures."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.sdks.lossy_proxy import run_lossy_proxy
from tests.support.admin_api import a_system, administrator
from tests.support.backing_services import free_port
from tests.support.polling import PATIENCE_S, until
from tests.support.registry import Registered, publish_structure, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking_client import AsyncTracker, Failure, Options, Stored, Tracker
from tracking_client.tracking_methods import TrackingMethods

QUICK = Options(linger_s=0.05, first_pause_s=0.02, longest_pause_s=0.2, batch_events=50)


class Client:
    """A tracker of either kind, with what it was told."""

    def __init__(self, kind: str, url: str, api_key: str, options: Options) -> None:
        self.stored: list[Stored] = []
        self.failures: list[Failure] = []
        self.options = options
        make = Tracker if kind == "threads" else AsyncTracker
        self.tracker: Tracker | AsyncTracker = make(
            url, api_key, options, on_stored=self.stored.append, on_error=self.failures.append
        )
        self.calls: TrackingMethods = self.tracker

    def track(self, count: int, name: str = "e") -> list[str]:
        """`count` events; their ids."""
        return [self.calls.track(name, user_id="u", properties={"number": number}) for number in range(count)]

    async def flush(self, timeout_s: float = PATIENCE_S) -> bool:
        """Of either kind; the loop goes on meanwhile."""
        if isinstance(self.tracker, Tracker):
            return await asyncio.to_thread(self.tracker.flush, timeout_s)
        return await self.tracker.flush(timeout_s)

    async def close(self, timeout_s: float | None = None) -> bool:
        """Of either kind."""
        if isinstance(self.tracker, Tracker):
            return await asyncio.to_thread(self.tracker.close, timeout_s)
        return await self.tracker.close(timeout_s)


@asynccontextmanager
async def a_client(kind: str, url: str, api_key: str, options: Options = QUICK) -> AsyncIterator[Client]:
    """Closed at the end."""
    client = Client(kind, url, api_key, options)
    try:
        yield client
    finally:
        await client.close(1)


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each test runs with both trackers."""
    return str(request.param)


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works; `Order Completed` must have a total."""
    schema = {"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}}
    await publish_structure(stack, "Order Completed", schema)
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """A gateway alone."""
    async with run_services(stack, "gateway") as services:
        yield services


async def stored_ids(stack: Stack) -> Counter[str]:
    """`{client id: how many rows}`."""
    owner = await stack.write()
    return Counter(row["message_id"] for row in await owner.fetch("select message_id from write.tracking_events"))


async def test_every_call_arrives_as_its_kind(
    kind: str, stack: Stack, services: ServiceProcesses, sender: Registered
) -> None:
    async with a_client(kind, services.url("gateway"), sender.api_key) as client:
        calls, context = client.calls, {"library": {"name": "shop"}}
        calls.track("Order Completed", user_id="u", properties={"total": 5}, context=context)
        calls.identify("u", anonymous_id="a", traits={"plan": "pro"})
        calls.page("Home", anonymous_id="a")
        calls.screen("Login", anonymous_id="a")
        calls.group("g", user_id="u")
        calls.alias("u", previous_id="a")
        assert await client.flush()

    owner = await stack.write()
    rows = await owner.fetch(
        "select event_type, event_name, user_id, anonymous_id, event_properties::text, context::text, sent_at "
        "from write.tracking_events order by original_timestamp"
    )
    assert [tuple(row)[:6] for row in rows] == [
        (None, "Order Completed", "u", None, '{"total": 5}', '{"library": {"name": "shop"}}'),
        ("identify", "identify", "u", "a", '{"plan": "pro"}', None),
        ("page", "page", None, "a", '{"name": "Home"}', None),
        ("screen", "screen", None, "a", '{"name": "Login"}', None),
        ("group", "group", "u", None, '{"groupId": "g"}', None),
        ("alias", "alias", "u", None, '{"previousId": "a"}', None),
    ]
    assert all(row["sent_at"] is not None for row in rows)
    assert [stored.is_valid for stored in client.stored] == [True] * 6


async def test_everything_arrives_once(kind: str, stack: Stack, services: ServiceProcesses, sender: Registered) -> None:
    async with a_client(kind, services.url("gateway"), sender.api_key) as client:
        ids = client.track(2000)

        assert await client.flush()

        assert await stored_ids(stack) == Counter(ids)
        assert [stored.event_id for stored in client.stored] == ids
        assert (client.calls.counts.stored, client.calls.counts.retries, client.failures) == (2000, 0, [])


async def test_with_every_third_answer_lost_everything_arrives_once(
    kind: str, stack: Stack, services: ServiceProcesses, sender: Registered
) -> None:
    async with (
        run_lossy_proxy(services.url("gateway"), 3) as proxy,
        a_client(kind, f"http://127.0.0.1:{proxy.port}", sender.api_key) as client,
    ):
        ids = client.track(1000)

        assert await client.flush()

        assert proxy.dropped >= 5
        assert await stored_ids(stack) == Counter(ids)
        assert sorted(stored.event_id for stored in client.stored) == sorted(ids)
        assert client.calls.counts.retries == proxy.dropped
        assert client.calls.counts.duplicates == 50 * proxy.dropped


async def test_what_is_tracked_while_the_gateway_is_away_arrives_when_it_is_back(
    kind: str, stack: Stack, services: ServiceProcesses, sender: Registered
) -> None:
    async with a_client(kind, services.url("gateway"), sender.api_key) as client:
        ids = client.track(100)
        assert await client.flush()
        await services.kill("gateway")
        ids += client.track(300)
        await until(lambda: _later(client.calls.counts.retries), lambda retries: retries >= 3)

        await services.start("gateway")

        assert await client.flush()
        assert await stored_ids(stack) == Counter(ids)
        assert client.failures == []


async def test_what_is_under_way_when_the_task_is_cancelled_is_sent_by_the_next(
    stack: Stack, services: ServiceProcesses, sender: Registered
) -> None:
    await services.kill("gateway")
    async with a_client("asyncio", services.url("gateway"), sender.api_key) as client:
        ids = client.track(10)
        await until(lambda: _later(client.calls.counts.retries), lambda retries: retries >= 1)

        for task in asyncio.all_tasks():
            if task.get_name() == "tracking-client":
                task.cancel()
                await asyncio.wait({task})

        await services.start("gateway")
        ids += client.track(1)
        assert await client.flush()
        assert await stored_ids(stack) == Counter(ids)


async def _later(value: Any) -> Any:
    return value


async def test_a_full_queue_says_so_at_once_and_keeps_what_it_has(
    kind: str, stack: Stack, services: ServiceProcesses, sender: Registered
) -> None:
    await services.kill("gateway")
    options = Options(queue_events=10, batch_events=10, linger_s=0.05, first_pause_s=0.02, longest_pause_s=0.1)
    async with a_client(kind, services.url("gateway"), sender.api_key, options) as client:
        under_way = client.track(10)
        await until(lambda: _later(client.calls.counts.retries), lambda retries: retries >= 1)

        ids = client.track(25)

        assert [failure.event["eventId"] for failure in client.failures] == ids[10:]
        assert client.calls.counts.failures == {"queue_full": 15}
        await services.start("gateway")
        assert await client.flush()
        assert await stored_ids(stack) == Counter(under_way + ids[:10])


async def test_what_the_gateway_rejects_is_told_with_its_reason(
    kind: str, stack: Stack, services: ServiceProcesses, sender: Registered
) -> None:
    async with a_client(kind, services.url("gateway"), sender.api_key) as client:
        good = client.calls.track("e", user_id="u")
        nobodys = client.calls.track("e")
        too_long = client.calls.track("n" * 201, user_id="u")
        timeless = client.calls.track("e", user_id="u", timestamp="yesterday")
        large = client.calls.track("e", user_id="u", properties={"text": "x" * 70_000})
        broken = client.calls.track("Order Completed", user_id="u", properties={"total": "much"})

        assert await client.flush()

        assert [(failure.event["eventId"], failure.code) for failure in client.failures] == [
            (nobodys, "invalid_event"),
            (too_long, "invalid_event"),
            (large, "event_too_large"),
        ]
        assert "anonymousId: required when userId is missing" in client.failures[0].message
        assert await stored_ids(stack) == Counter([good, timeless, broken])
        assert [stored.is_valid for stored in client.stored] == [True, False, False]
        assert client.stored[1].validation_errors[0]["code"] == "unreadable_time"
        assert client.stored[2].validation_errors[0]["path"] == "/total"


async def test_a_wrong_key_is_told_and_not_tried_again(kind: str, services: ServiceProcesses) -> None:
    async with a_client(kind, services.url("gateway"), "sk_wrong") as client:
        ids = client.track(3)

        assert await client.flush()

        assert [failure.event["eventId"] for failure in client.failures] == ids
        assert {failure.code for failure in client.failures} == {"unknown_api_key"}
        assert client.calls.counts.retries == 0


async def test_a_batch_larger_than_the_gateway_takes_arrives_in_parts(
    kind: str, stack: Stack, sender: Registered
) -> None:
    options = Options(batch_events=300)
    async with (
        run_services(stack, "gateway", settings={"TRACKING_BATCH_EVENTS": "40"}) as services,
        a_client(kind, services.url("gateway"), sender.api_key, options) as client,
    ):
        ids = client.track(300)

        assert await client.flush()

        assert await stored_ids(stack) == Counter(ids)
        assert client.failures == []


async def test_a_client_that_sends_too_fast_waits_as_long_as_it_is_told(kind: str, stack: Stack) -> None:
    async with run_services(stack, "gateway", "admin") as services, administrator(services) as admin:
        system = await a_system(admin)
        settings = {"settings": {"rateLimit": {"eventsPerSecond": 100, "burst": 100}}}
        changed = await admin.patch(f"/api/partnersystems/{system['id']}", json=settings)
        assert changed.status_code == 200, changed.text
        async with a_client(kind, services.url("gateway"), system["apiKey"]) as client:
            ids = client.track(300)

            assert await client.flush()

            assert await stored_ids(stack) == Counter(ids)
            # its own pauses of 0.2 s at most would come to many more
            assert 1 <= client.calls.counts.retries <= 5


async def test_two_attempts_at_one_event_of_ones_own_id_and_time_are_one_event(
    kind: str, stack: Stack, services: ServiceProcesses, sender: Registered
) -> None:
    async with a_client(kind, services.url("gateway"), sender.api_key) as client:
        for _ in range(3):
            client.calls.track("e", user_id="u", event_id="order-1", timestamp="2026-11-20T12:00:00Z")
            assert await client.flush()

        assert await stored_ids(stack) == Counter(["order-1"])
        assert [stored.is_duplicate for stored in client.stored] == [False, True, True]
        assert len({stored.stored_id for stored in client.stored}) == 1


async def test_the_end_with_nobody_there_tells_each_event_once_and_in_time(kind: str) -> None:
    client = Client(kind, f"http://127.0.0.1:{free_port()}", "sk_x", QUICK)
    ids = client.track(120)
    await until(lambda: _later(client.calls.counts.retries), lambda retries: retries >= 1)

    assert not await client.close(0.3)

    assert [failure.event["eventId"] for failure in client.failures] == ids
    assert client.calls.counts.failures == {"unsent": 120}
    client.track(1)
    assert client.failures[-1].code == "closed"


async def test_the_end_does_not_wait_for_an_answer_that_never_comes(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        client = Client(kind, f"http://127.0.0.1:{silent.getsockname()[1]}", "sk_x", Options(linger_s=0))
        ids = client.track(5)
        caller, _ = await asyncio.get_running_loop().sock_accept(silent)
        with caller:
            began = time.monotonic()

            assert not await client.close(0.2)

            assert time.monotonic() - began < client.options.timeout_s
        assert sorted(failure.event["eventId"] for failure in client.failures) == sorted(ids)
