"""A request that is sent again stores no second event, whichever gateway gets it and whenever it comes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.test_pipeline import QUICK
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.read_model import System, add_system, add_token
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

EVER = {"startDate": "2000-01-01T00:00:00Z", "endDate": "2100-01-01T00:00:00Z"}
# at COMMIT, so that a gateway can be killed while its transaction becomes durable without it
HELD_COMMIT = """
create function write.commit_when_let() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock_shared(1);
    return null;
end $$;
create constraint trigger commits_when_let after insert on write.event_batches
    deferrable initially deferred for each row execute function write.commit_when_let()
"""


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await known_system(stack, "Website")


async def known_system(stack: Stack, name: str) -> Registered:
    """A system with a key that query knows too, without waiting for the relay to copy it."""
    registered = await register_system(stack, name)
    await add_system(stack, System(registered.partner_id, registered.system_id))
    return registered


class Product:
    """Gateways to send to, and what query says in the end."""

    def __init__(self, stack: Stack, services: ServiceProcesses, client: httpx.AsyncClient, token: str) -> None:
        self.services = services
        self._stack = stack
        self._client = client
        self._token = token

    async def send(self, sender: Registered, events: list[dict[str, Any]], to: str = "gateway") -> Any:
        """A batch that must be taken; the answer."""
        body = {"apiKey": sender.api_key, "events": events}
        response = await self._client.post(f"{self.services.url(to)}/api/events/batch", json=body)
        assert response.status_code == 202, response.text
        return response.json()

    async def ids(self, sender: Registered, number: int) -> list[str]:
        """The ids that query lists, once everything sent so far is visible; there must be `number`."""
        url = f"{self.services.url('query')}/api/events/partner-system/{sender.system_id}"
        headers = {"Authorization": f"Bearer {self._token}"}

        async def listed() -> Any:
            response = await self._client.get(url, params=EVER | {"pageSize": "1000"}, headers=headers)
            return response.json() if response.status_code == 200 else {"events": [], "totalCount": response.text}

        answer = await until(listed, lambda answer: len(answer["events"]) >= number)
        await self._all_applied()
        answer = await listed()
        assert answer["totalCount"] == number
        return [event["eventId"] for event in answer["events"]]

    async def _all_applied(self) -> None:
        write, read = await self._stack.write(), await self._stack.read()

        async def left() -> int:
            batches = await write.fetchval("select count(*) from write.event_batches")
            return 2 * int(batches) - int(await read.fetchval("select count(*) from read.applied_batches"))

        await until(left, lambda number: number == 0)


@asynccontextmanager
async def product(stack: Stack, *more: str) -> AsyncIterator[Product]:
    """Everything from a gateway to query, and `more` processes."""
    token = await add_token(stack)
    settings = {**QUICK, "TRACKING_COMMIT_DEADLINE_S": "20"}
    async with (
        run_services(stack, "gateway", *more, "projector", "statistics", "query", settings=settings) as services,
        http_client(timeout=20) as client,
    ):
        yield Product(stack, services, client, token)


def an_event(number: int, **changes: Any) -> dict[str, Any]:
    at = "2026-11-20T10:30:00.123Z"
    return {"eventName": "page_view", "userId": "u", "eventTimestamp": at, "eventId": f"e{number}", **changes}


def statuses(answer: Any) -> list[str]:
    return [result["status"] for result in answer["results"]]


async def test_a_batch_sent_twenty_times_at_once_is_stored_once(stack: Stack, sender: Registered) -> None:
    async with product(stack) as running_product:
        events = [an_event(number) for number in range(50)]

        answers = await asyncio.gather(*(running_product.send(sender, events) for _ in range(20)))

        assert sum(answer["accepted"] for answer in answers) == 50
        assert sum(answer["duplicates"] for answer in answers) == 19 * 50
        told = {tuple(result["eventId"] for result in answer["results"]) for answer in answers}
        assert len(told) == 1
        assert set(await running_product.ids(sender, 50)) == set(told.pop())


async def test_an_id_that_comes_twice_in_a_batch_is_stored_once(stack: Stack, sender: Registered) -> None:
    async with product(stack) as running_product:
        answer = await running_product.send(sender, [an_event(1), an_event(2), an_event(1)])

        assert statuses(answer) == ["accepted", "accepted", "duplicate"]
        first, second, again = (result["eventId"] for result in answer["results"])
        assert first == again
        assert set(await running_product.ids(sender, 2)) == {first, second}


@pytest.mark.parametrize("age_days", [31, 400])
async def test_a_retry_that_comes_a_month_or_more_later_is_known(
    stack: Stack, sender: Registered, age_days: int
) -> None:
    then = datetime.now(UTC) - timedelta(days=age_days)
    event = an_event(1, eventTimestamp=then.isoformat(), sentAt=then.isoformat())
    owner = await stack.write()
    async with product(stack) as running_product:
        first = await running_product.send(sender, [event])
        # as if all this had been so long ago; meanwhile the month got its partition, which moves the row
        await owner.execute("update write.tracking_events set received_at = $1", then)
        await owner.execute("select write.create_partition('tracking_events', $1)", then.date())

        again = await running_product.send(sender, [event | {"sentAt": datetime.now(UTC).isoformat()}])

        assert statuses(again) == ["duplicate"]
        assert await running_product.ids(sender, 1) == [first["results"][0]["eventId"]]


async def test_a_retry_of_an_event_without_a_time_is_known(stack: Stack, sender: Registered) -> None:
    async with product(stack) as running_product:
        await running_product.send(sender, [an_event(1, eventTimestamp=None)])

        again = await running_product.send(sender, [an_event(1, eventTimestamp=None)])

        assert statuses(again) == ["duplicate"]
        await running_product.ids(sender, 1)


async def test_the_same_id_from_two_systems_is_two_events(stack: Stack, sender: Registered) -> None:
    other = await known_system(stack, "App")
    async with product(stack) as running_product:
        one = await running_product.send(sender, [an_event(1)])
        two = await running_product.send(other, [an_event(1)])

        assert statuses(one) == statuses(two) == ["accepted"]
        assert await running_product.ids(sender, 1) != await running_product.ids(other, 1)


async def test_a_retry_through_another_gateway_is_known(stack: Stack, sender: Registered) -> None:
    async with product(stack, "gateway-2") as running_product:
        first = await running_product.send(sender, [an_event(1), an_event(2)])

        again = await running_product.send(sender, [an_event(2), an_event(3), an_event(1)], to="gateway-2")

        assert statuses(first) == ["accepted", "accepted"]
        assert statuses(again) == ["duplicate", "accepted", "duplicate"]
        await running_product.ids(sender, 3)


async def test_a_retry_after_the_gateway_died_between_commit_and_answer_is_known(
    stack: Stack, sender: Registered
) -> None:
    owner = await stack.write()
    await owner.execute(HELD_COMMIT)

    async def committing() -> int:
        held = "select count(*) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
        return int(await owner.fetchval(held))

    async def stored() -> int:
        return int(await owner.fetchval("select count(*) from write.tracking_events"))

    async with product(stack, "relay") as running_product:
        await owner.execute("select pg_advisory_lock(1)")
        unanswered = asyncio.create_task(running_product.send(sender, [an_event(1), an_event(2)]))
        await until(committing, lambda number: number == 1)
        await running_product.services.kill("gateway")
        with pytest.raises(httpx.TransportError):
            await unanswered
        await owner.execute("select pg_advisory_unlock(1)")
        await until(stored, lambda number: number == 2)
        await running_product.services.start("gateway")

        again = await running_product.send(sender, [an_event(1), an_event(2)])

        assert statuses(again) == ["duplicate", "duplicate"]
        await running_product.ids(sender, 2)
