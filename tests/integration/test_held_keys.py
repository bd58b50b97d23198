"""A key that an unfinished transaction holds: the event waits alone, and PostgreSQL ends the transaction by itself.

A gateway that freezes, or whose host disappears, in the middle of a commit leaves such a transaction behind, and SDKs
repeat its events through other gateways.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from tests.support.events import an_event
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.domain.ids import make_uuid7
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import copy_binary, postgres
from tracking.tables.event_columns import WRITE_ENCODERS

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]  # generic only in its stubs

INGEST, BATCH = "/api/events/ingest", "/api/events/batch"
PATIENT = {"TRACKING_COMMIT_DEADLINE_S": "20"}
HASTY = {"TRACKING_COMMIT_DEADLINE_S": "1"}
NEIGHBOURS = 40
AT = datetime.now(UTC).isoformat(timespec="milliseconds")
IS_THERE = "select count(*) from pg_stat_activity where pid = $1"
IS_ACTIVE = IS_THERE + " and state = 'active'"
IS_READING = IS_THERE + " and wait_event = 'ClientRead' and state = 'active'"
COMMIT_SESSIONS = """
select count(*)
  from pg_stat_activity
 where application_name = 'tracking-gateway-commit'
   and datname = current_database()
"""
# three groups side by side, and one for what is held
MAX_COMMIT_SESSIONS = 4


def envelope(name: str | None = None) -> dict[str, Any]:
    return {"eventName": "page_view", "userId": "u", "eventTimestamp": AT} | ({"eventId": name} if name else {})


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@asynccontextmanager
async def a_client(services: ServiceProcesses, sender: Registered) -> AsyncIterator[httpx.AsyncClient]:
    headers, limits = {"X-Api-Key": sender.api_key}, httpx.Limits(max_connections=200)
    async with http_client(base_url=services.url("gateway"), headers=headers, limits=limits) as client:
        yield client


class Holder:
    """Holds the keys of events in a transaction of its own, as a gateway does that has not committed yet."""

    def __init__(self, owner: "Connection") -> None:
        self._owner = owner

    async def hold(self, client: httpx.AsyncClient, *names: str) -> None:
        """Hold the keys of the events of these names, none of which is stored afterwards."""
        answers = [await client.post(INGEST, json=envelope(name)) for name in names]
        ids = [UUID(answer.json()["eventId"]) for answer in answers]
        await self._owner.execute(
            "create temporary table held as select * from write.tracking_events where id = any($1::uuid[])", ids
        )
        await self._owner.execute("delete from write.tracking_events where id = any($1::uuid[])", ids)
        await self._owner.execute("begin")
        await self._owner.execute("insert into write.tracking_events select * from held")

    async def release(self) -> None:
        """As when the server ends the session."""
        await self._owner.execute("rollback")

    async def commit(self) -> None:
        """As when the other gateway goes on."""
        await self._owner.execute("commit")


@pytest.fixture
async def holder(stack: Stack) -> Holder:
    """Of a session that no time limit ends."""
    return Holder(await stack.write())


async def count_stored(stack: Stack) -> int:
    return int(await (await stack.write()).fetchval("select count(*) from write.tracking_events"))


async def test_neighbours_of_a_held_event_are_stored_while_it_waits(
    stack: Stack, sender: Registered, holder: Holder
) -> None:
    async with run_services(stack, "gateway", settings=PATIENT) as services, a_client(services, sender) as client:
        await holder.hold(client, "held", "held too")
        waiting = [
            asyncio.create_task(client.post(INGEST, json=envelope("held"))),
            asyncio.create_task(client.post(BATCH, json={"events": [envelope(), envelope("held too"), envelope("a")]})),
        ]
        neighbours = [
            *(client.post(INGEST, json=envelope(f"named {n}")) for n in range(NEIGHBOURS)),
            *(client.post(INGEST, json=envelope()) for _ in range(NEIGHBOURS)),
            client.post(BATCH, json={"events": [envelope(f"in a batch {n}") for n in range(200)]}),
        ]

        answers = await asyncio.gather(*neighbours)

        assert {answer.status_code for answer in answers} == {202}
        assert not any(task.done() for task in waiting)
        await holder.release()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {202}
    assert await count_stored(stack) == 2 * NEIGHBOURS + 200 + 4


async def test_a_held_event_alone_is_told_to_come_back_and_is_stored_then(
    stack: Stack, sender: Registered, holder: Holder
) -> None:
    async with run_services(stack, "gateway", settings=HASTY) as services, a_client(services, sender) as client:
        await holder.hold(client, "held")
        batch = {"events": [envelope(), envelope("held"), envelope("a")]}

        answers = [await client.post(INGEST, json=envelope("held")), await client.post(BATCH, json=batch)]

        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        # nor are the others of its request, which would be stored twice when it is repeated
        assert await count_stored(stack) == 0
        await holder.release()
        await until(lambda: client.post(BATCH, json=batch), lambda answer: answer.status_code == 202)
    assert await count_stored(stack) == 3


async def test_a_held_event_that_the_other_gateway_commits_is_a_duplicate(
    stack: Stack, sender: Registered, holder: Holder
) -> None:
    async with run_services(stack, "gateway", settings=PATIENT) as services, a_client(services, sender) as client:
        await holder.hold(client, "held")
        batch = {"events": [envelope("new"), envelope("held"), envelope("held")]}
        waiting = asyncio.create_task(client.post(BATCH, json=batch))
        assert (await client.post(INGEST, json=envelope())).status_code == 202

        await holder.commit()

        results = (await waiting).json()["results"]
    assert [result["status"] for result in results] == ["accepted", "duplicate", "duplicate"]
    assert await count_stored(stack) == 3


async def test_repeats_of_held_events_use_no_more_connections_however_many_they_are(
    stack: Stack, sender: Registered, holder: Holder
) -> None:
    watcher = await stack.write()
    most = 0

    async def watch(repeats: Sequence[asyncio.Task[httpx.Response]]) -> bool:
        nonlocal most
        most = max(most, await watcher.fetchval(COMMIT_SESSIONS))
        return all(task.done() for task in repeats)

    names = [f"held {n}" for n in range(30)]
    async with run_services(stack, "gateway", settings=HASTY) as services, a_client(services, sender) as client:
        await holder.hold(client, *names)
        for _ in range(6):
            repeats = [asyncio.create_task(client.post(INGEST, json=envelope(name))) for name in names]
            await until(lambda repeats=repeats: watch(repeats), bool)  # type: ignore[misc]
            assert {task.result().status_code for task in repeats} == {503}
        await holder.release()

    assert most <= MAX_COMMIT_SESSIONS


async def open_commit_session(stack: Stack) -> "Connection":
    """As a gateway opens one."""
    connection = await asyncpg.connect(
        stack.write_url("gateway"), server_settings={"application_name": "tracking-gateway-commit"}
    )
    await postgres.prepare_connection(connection)
    return connection


def some_events(sender: Registered, number: int) -> list[TrackingEvent]:
    now_ms = time.time_ns() // 1_000_000
    return [an_event(sender.system_id, make_uuid7(now_ms, n)) for n in range(number)]


async def test_postgresql_ends_a_commit_whose_gateway_does_not_go_on(stack: Stack, sender: Registered) -> None:
    frozen, owner = await open_commit_session(stack), await stack.write()
    pid = frozen.get_server_pid()
    columns = list(zip(*some_events(sender, 3), strict=True))

    await frozen.execute("begin")
    await copy_binary.copy(frozen, "tracking_events", schema="write", encoders=WRITE_ENCODERS, groups=[columns])

    await until(lambda: owner.fetchval(IS_THERE, pid), lambda number: number == 0)
    frozen.terminate()


async def test_postgresql_ends_a_wait_for_a_key_of_a_client_that_is_still_there(
    stack: Stack, sender: Registered
) -> None:
    waiting, owner = await open_commit_session(stack), await stack.write()
    columns = list(zip(*some_events(sender, 3), strict=True))
    await postgres.prepare_connection(owner)
    async with owner.transaction():
        await copy_binary.copy(owner, "tracking_events", schema="write", encoders=WRITE_ENCODERS, groups=[columns])

        with pytest.raises(asyncpg.LockNotAvailableError):
            await copy_binary.copy(
                waiting, "tracking_events", schema="write", encoders=WRITE_ENCODERS, groups=[columns]
            )
    await waiting.close()


async def test_postgresql_ends_what_it_does_for_a_client_that_has_gone(stack: Stack) -> None:
    gone, owner = await open_commit_session(stack), await stack.write()
    pid = gone.get_server_pid()
    await gone.execute("set statement_timeout = 0")
    sleeping = asyncio.create_task(gone.execute("select pg_sleep(3600)"))
    await until(lambda: owner.fetchval(IS_ACTIVE, pid), lambda number: number == 1)

    gone.terminate()

    await until(lambda: owner.fetchval(IS_THERE, pid), lambda number: number == 0)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await sleeping


async def test_a_gateway_that_froze_while_it_sent_rows_is_ended_by_another(stack: Stack, sender: Registered) -> None:
    """PostgreSQL has no time limit for a client that owes it rows."""
    frozen, owner = await open_commit_session(stack), await stack.write()
    pid = frozen.get_server_pid()
    columns = list(zip(*some_events(sender, 3), strict=True))
    ended = asyncio.Event()
    freezing = asyncio.create_task(send_rows_until(ended, frozen, columns))
    await until(lambda: owner.fetchval(IS_READING, pid), lambda number: number == 1)

    async with run_services(stack, "gateway") as services:
        await until(lambda: owner.fetchval(IS_THERE, pid), lambda number: number == 0)
        await until(lambda: asyncio.to_thread(services.log, "gateway"), lambda log: "in the middle of a commit" in log)

    ended.set()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await freezing
    assert await count_stored(stack) == 0


async def send_rows_until(ended: asyncio.Event, frozen: "Connection", columns: Sequence[Sequence[Any]]) -> None:
    async def rows() -> AsyncIterator[bytes]:
        yield b"PGCOPY\n\xff\r\n\0" + bytes(8) + copy_binary.encode_rows(WRITE_ENCODERS.values(), columns)
        await ended.wait()

    await frozen.copy_to_table(
        "tracking_events", schema_name="write", columns=list(WRITE_ENCODERS), source=rows(), format="binary"
    )


async def test_events_are_written_in_the_order_of_their_keys(stack: Stack, sender: Registered) -> None:
    async with run_services(stack, "gateway", settings=PATIENT) as services, a_client(services, sender) as client:
        names = [f"order {n}" for n in range(50)]
        for part in (names, names[::-1]):
            events = [envelope(name) for name in part]
            assert (await client.post(BATCH, json={"events": events})).status_code == 202

    owner = await stack.write()
    written = await owner.fetch("select tableoid, id from write.tracking_events order by tableoid, ctid")
    assert len(written) == len(names)
    assert [tuple(row) for row in written] == sorted(tuple(row) for row in written)


async def test_the_same_events_in_reverse_through_two_gateways_never_deadlock(stack: Stack, sender: Registered) -> None:
    # months and systems apart, so that several partitions are written
    times = [(datetime.now(UTC) - timedelta(days=40 * n)).isoformat() for n in range(3)]
    headers = {"X-Api-Key": sender.api_key}
    async with (
        run_services(stack, "gateway", "gateway-2", settings=PATIENT) as services,
        http_client(base_url=services.url("gateway"), headers=headers) as one,
        http_client(base_url=services.url("gateway-2"), headers=headers) as other,
    ):
        for turn in range(10):
            events = [envelope(f"{turn} {n}") | {"eventTimestamp": times[n % 3]} for n in range(300)]

            answers = await asyncio.gather(
                one.post(BATCH, json={"events": events}), other.post(BATCH, json={"events": events[::-1]})
            )

            assert {answer.status_code for answer in answers} == {202}
            accepted = [
                result for answer in answers for result in answer.json()["results"] if result["status"] == "accepted"
            ]
            assert len(accepted) == 300
        log = services.log("gateway") + services.log("gateway-2")
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    assert await (await stack.write()).fetchval(deadlocks) == 0
    assert "deadlock" not in log
    assert await count_stored(stack) == 3_000
