"""Retention drops what it says, when it says so, and nothing that was dropped comes back."""

# ruff: noqa: S608 - the statements are composed of constants

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.integration.test_pipeline import QUICK
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.read_model import add_token
from tests.support.rebuild import WORKERS, content, reach, rebuild, send
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.tables.partitions import list_months_around

RETENTION = {**QUICK, "TRACKING_UPKEEP_INTERVAL_S": "0.3", "TRACKING_RETENTION_MONTHS": "1"}
NOW = datetime.now(UTC)
RAW_SINCE = datetime.combine(list_months_around(NOW.date(), 1, 0)[0], datetime.min.time(), UTC)
# in a month that has a partition, in one that has none, and beyond what an id can say
EXPIRED = (RAW_SINCE - timedelta(hours=5), datetime(2004, 2, 29, tzinfo=UTC), datetime(1999, 5, 5, tzinfo=UTC))
EVER = {"startDate": "0001-01-01", "endDate": "2100-01-01"}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


def an_event(id_: str, at: datetime | None, **changes: Any) -> dict[str, Any]:
    """An event with an id as SDKs make them, unless `changes` say otherwise; such an id is placed by its time."""
    made = str(UUID(bytes=md5(id_.encode()).digest(), version=4))  # noqa: S324 - no secret
    event: dict[str, Any] = {
        "eventName": "page_view",
        "userId": "u1",
        "eventId": made,
        "eventProperties": {"secret": 1},
    }
    if at is not None:
        event["eventTimestamp"] = at.isoformat()
    return event | changes


def old_and_new() -> list[dict[str, Any]]:
    """90 events that will expire, and 30 that are kept."""
    old = [an_event(f"old-{n}", EXPIRED[n % 3] + timedelta(seconds=n)) for n in range(90)]
    return old + [an_event(f"new-{n}", NOW) for n in range(30)]


async def post(services: ServiceProcesses, sender: Registered, event: dict[str, Any]) -> httpx.Response:
    async with http_client(base_url=services.url("gateway"), timeout=20) as client:
        return await client.post("/api/events/ingest", json=event, headers={"X-Api-Key": sender.api_key})


@asynccontextmanager
async def expired_product(
    stack: Stack, sender: Registered, settings: Mapping[str, str] = RETENTION
) -> AsyncIterator[ServiceProcesses]:
    """Everything, after retention has dropped the 90 old events; before, both were applied."""
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        await send(services, sender, old_and_new())
        await reach(stack, 120)
        await age(stack)
        await services.stop("relay")
        async with run_services(stack, "relay", settings=settings):
            await until_expired(stack)
        await services.start("relay")
        yield services


async def age(stack: Stack) -> None:
    """As if events that are to expire had been received when they happened."""
    owner = await stack.write()
    await owner.execute(
        "update write.tracking_events set received_at = event_timestamp where event_timestamp < $1", RAW_SINCE
    )


async def until_expired(stack: Stack) -> None:
    owner = await stack.write()
    done = "select count(*) from write.retention where expired_through = raw_since"
    await until(lambda: owner.fetchval(done), bool)


async def test_what_retention_has_dropped_is_counted_and_not_listed_even_after_a_rebuild(
    stack: Stack, sender: Registered
) -> None:
    async with expired_product(stack, sender) as services:
        await services.start("query")
        before = await content(stack)
        async with http_client(
            base_url=services.url("query"), headers={"Authorization": f"Bearer {await add_token(stack)}"}, timeout=20
        ) as client:
            path = f"/api/events/partner-system/{sender.system_id}"

            async def look() -> tuple[int, int, int, str]:
                listed = (await client.get(path, params={**EVER, "pageSize": "1000"})).json()
                counted = (await client.get(f"{path}/statistics", params=EVER)).json()
                assert listed["meta"]["rawSince"] == counted["meta"]["rawSince"]
                return len(listed["events"]), listed["totalCount"], counted["totalEvents"], listed["meta"]["rawSince"]

            seen = await look()
            await rebuild(stack)
            after_rebuild = await look()
            await rebuild(stack, "--delete-strays")

            assert seen == after_rebuild == await look()
            assert seen == (30, 30, 120, RAW_SINCE.strftime("%Y-%m-%dT00:00:00Z"))
            assert await content(stack) == before
    owner = await stack.read()
    assert await owner.fetchval("select count(*) from read.tracking_events_read_model") == 30


async def test_an_older_event_is_rejected_with_a_reason_whether_it_is_new_or_a_repeat(
    stack: Stack, sender: Registered
) -> None:
    async with expired_product(stack, sender) as services:
        for at in EXPIRED:
            fresh = await post(services, sender, an_event(str(uuid4()), at))
            assert (fresh.status_code, fresh.json()["code"]) == (400, "event_too_old")
            assert RAW_SINCE.isoformat() in fresh.json()["message"]
        # the clock of this client is wrong, so the event is counted at another time than its id says
        wrong_clock = an_event("old-0", EXPIRED[0], sentAt=(EXPIRED[0] + timedelta(hours=1)).isoformat())
        assert (await post(services, sender, wrong_clock)).json()["code"] == "event_too_old"
        async with http_client(base_url=services.url("gateway"), timeout=20) as client:
            body = {"apiKey": sender.api_key, "events": [*old_and_new(), an_event("newer", RAW_SINCE)]}
            answer = (await client.post("/api/events/batch", json=body)).json()

        statuses = [result.get("code", result["status"]) for result in answer["results"]]
        assert statuses == ["event_too_old"] * 90 + ["duplicate"] * 30 + ["accepted"]
        owner = await stack.write()
        recorded = "select count(*) from write.refused_events where reason = 'event_too_old'"
        await until(lambda: owner.fetchval(recorded), lambda number: number == 3 + 1 + 90)


async def test_rows_outside_the_months_expire_and_a_named_id_is_still_known(stack: Stack, sender: Registered) -> None:
    far = datetime(2080, 1, 1, tzinfo=UTC)
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        named, ahead = an_event("", None, eventId="order-1"), an_event("far-1", far)
        events = [named, ahead, an_event("ancient", EXPIRED[1])]
        await send(services, sender, events)
        await reach(stack, 3)
        owner = await stack.write()
        old = RAW_SINCE - timedelta(days=1)
        await owner.execute("update write.tracking_events set received_at = $1, event_timestamp = $1", old)
        await services.stop("relay")

        async with run_services(stack, "relay", settings=RETENTION):
            await until_expired(stack)

        kept = await owner.fetch("select event_properties::text as properties, user_id from write.tracking_events")
        assert [tuple(row) for row in kept] == [("{}", None)] * 2
        await services.start("relay")
        again = [await post(services, sender, event) for event in (named, ahead)]
        assert [answer.json().get("duplicate") for answer in again] == [True, True]


async def test_nothing_is_dropped_before_it_is_applied(stack: Stack, sender: Registered) -> None:
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        await services.stop("projector", "statistics", "relay")
        await send(services, sender, old_and_new())
        async with run_services(stack, "relay", settings=RETENTION):
            owner = await stack.write()
            passed = "select count(*) from write.retention where now() > announced_at + interval '15 seconds'"
            await until(lambda: owner.fetchval(passed), bool)

            assert await owner.fetchval("select count(*) from write.tracking_events") == 120
            await services.start("projector", "statistics")
            read = await stack.read()
            counted = "select coalesce(sum(total), 0)::int from read.event_counts_hourly"
            await until(lambda: read.fetchval(counted), lambda number: number == 120)
            left = "select count(*) from write.tracking_events where event_timestamp between '2000-01-01' and $1"
            await until(lambda: owner.fetchval(left, EXPIRED[0]), lambda number: number == 0)


EXPIRED_REST = """
select (select count(*) from read.event_counts_hourly where bucket < $1)
     + (select count(*) from read.event_counts_daily where day < ($1 at time zone 'UTC')::date)
     + (select count(*) from read.range_versions where day < ($1 at time zone 'UTC')::date)
"""


async def test_counts_links_and_settled_dead_letters_expire_too(stack: Stack, sender: Registered) -> None:
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        links = [
            an_event(f"link-{name}", EXPIRED[0], eventType="identify", anonymousId=name, userId=f"user of {name}")
            for name in ("gone", "here")
        ]
        here = [an_event("new", NOW, userId=None, anonymousId="here")]
        await send(services, sender, [*old_and_new(), *links, *here])
        await reach(stack, 123)
        write, read = await stack.write(), await stack.read()
        # as if the system had existed then; a time before that makes no link
        await read.execute("update read.identities set linked_at = $1", EXPIRED[0])
        columns = (
            "id, consumer, is_batch, reason, deliveries, partner_system_ids, event_ids, body, body_sha256, body_bytes"
        )
        for number, (state, days) in enumerate((("applied", 91), ("discarded", 91), ("discarded", 89), ("open", 91))):
            await write.execute(
                f"insert into write.dead_letters ({columns}, state, decided_at, last_seen_at) "
                "values ($1, 'projector', false, 'unreadable', 1, '{}', '{}', '', $2, 0, $3, $4, $4)",
                uuid4(), bytes([number]) * 32, state, NOW - timedelta(days=days),
            )  # fmt: skip
        await services.stop("relay")

        async with run_services(stack, "relay", settings={**RETENTION, "TRACKING_COUNTS_RETENTION_MONTHS": "1"}):
            await until_expired(stack)
            await until(lambda: read.fetchval(EXPIRED_REST, RAW_SINCE), lambda number: number == 0)

        assert await read.fetchval("select sum(total)::int from read.event_counts_hourly") == 31
        assert [row["id"] for row in await read.fetch("select id from read.identities")] == ["here"]
        states = await write.fetch("select state from write.dead_letters order by state")
        assert [row["state"] for row in states] == ["discarded", "open"]
