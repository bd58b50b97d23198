"""The gateway without its broker, its cache or its database, and while it is being stopped."""

import asyncio
import os
import signal
import socket
import sys
from typing import Any

import httpx
import pamqp.commands
import pamqp.frame
import pytest

from tests.integration.test_pipeline import QUICK, both, reach, send
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, takes_effect, until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

INGEST = "/api/events/ingest"
NOBODY = "127.0.0.1:1"


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


def an_envelope(sender: Registered, **changes: Any) -> dict[str, Any]:
    return {"apiKey": sender.api_key, "eventName": "page_view", "userId": "u", **changes}


async def test_without_the_broker_every_event_is_taken_and_published_later(stack: Stack, sender: Registered) -> None:
    async with run_services(stack, "gateway", settings={"TRACKING_RABBITMQ_URL": f"amqp://x:x@{NOBODY}/"}) as services:
        for start in range(0, 1000, 100):
            await send(services, sender, range(start, start + 100))
    assert await both(stack) == (0, 0)

    async with run_services(stack, "relay", "projector", "statistics", settings=QUICK):
        await reach(stack, 1000)


_GREETING = pamqp.frame.marshal(
    pamqp.commands.Connection.Start(mechanisms="PLAIN", locales="en_US", server_properties={}), 0
)


@pytest.mark.parametrize("greeting", [b"", _GREETING], ids=["at once", "after greeting"])
async def test_a_broker_that_hangs_up_costs_neither_events_nor_the_process(
    stack: Stack, sender: Registered, greeting: bytes
) -> None:
    callers: list[int] = []

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append(1)
        writer.write(greeting)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"amqp://x:x@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, run_services(stack, "gateway", settings={"TRACKING_RABBITMQ_URL": url}) as services:
        sent = 0
        async with asyncio.timeout(PATIENCE_S):
            while len(callers) < 4:
                await send(services, sender, range(sent, sent + 20))
                sent += 20
        assert services.is_running("gateway")

    owner = await stack.write()
    assert await owner.fetchval("select count(*) from write.tracking_events") == sent


async def test_without_redis_keys_come_from_the_database(stack: Stack, sender: Registered) -> None:
    settings = {"TRACKING_REDIS_URL": f"redis://{NOBODY}", "TRACKING_CACHE_TTL_S": "600"}
    async with (
        run_services(stack, "gateway", settings=settings) as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        assert (await client.post(INGEST, json=an_envelope(sender))).status_code == 202
        owner = await stack.write()

        async def is_refused() -> bool:
            status = (await client.post(INGEST, json=an_envelope(sender))).status_code
            assert status in (202, 403)
            return status == 403

        # no invalidation can be heard: the promise of one second holds all the same
        await takes_effect(
            1.5,
            change=lambda: owner.execute("update write.partner_systems set is_active = false"),
            undo=lambda: owner.execute("update write.partner_systems set is_active = true"),
            is_seen=is_refused,
        )


async def test_without_its_database_the_gateway_answers_503_and_recovers(stack: Stack, sender: Registered) -> None:
    async with (
        run_services(stack, "gateway", settings={"TRACKING_COMMIT_DEADLINE_S": "0.5"}) as services,
        http_client(base_url=services.url("gateway")) as client,
    ):

        async def taken(event_id: str) -> httpx.Response:
            """On a busy machine a commit may miss the short deadline."""
            body = an_envelope(sender, eventId=event_id)
            return await until(lambda: client.post(INGEST, json=body), lambda answer: answer.status_code == 202)

        await taken("before")
        owner = await stack.write()
        async with owner.transaction():
            await owner.execute("lock table write.event_batches in access exclusive mode")
            waiting = await client.post(INGEST, json=an_envelope(sender, eventId="during"))
        await taken("after")

    assert (waiting.status_code, waiting.json()["code"]) == (503, "database_unavailable")
    assert int(waiting.headers["Retry-After"]) >= 1


async def test_a_commit_connection_that_is_cut_is_replaced_within_the_request(stack: Stack, sender: Registered) -> None:
    async with (
        run_services(stack, "gateway") as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        await client.post(INGEST, json=an_envelope(sender))
        owner = await stack.write()
        cut = await owner.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where application_name like 'tracking-gateway%'"
        )
        again = await client.post(INGEST, json=an_envelope(sender))

    assert cut >= 1
    assert again.status_code == 202
    assert await owner.fetchval("select count(*) from write.tracking_events") == 2


async def test_too_much_waiting_is_told_to_come_back(stack: Stack, sender: Registered) -> None:
    settings = {"TRACKING_BUFFER_EVENTS": "50", "TRACKING_COMMIT_DEADLINE_S": "60"}
    async with (
        run_services(stack, "gateway", settings=settings) as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        owner = await stack.write()
        async with owner.transaction():
            await owner.execute("lock table write.tracking_events in access exclusive mode")
            sending = [asyncio.create_task(client.post(INGEST, json=an_envelope(sender))) for _ in range(80)]
            rejected = await until(lambda: _done(sending), lambda done: len(done) >= 30)
        answers = await asyncio.gather(*sending)

    assert {response.json()["code"] for response in rejected} == {"overloaded"}
    statuses = [response.status_code for response in answers]
    assert (statuses.count(202), statuses.count(503)) == (50, 30)
    assert await owner.fetchval("select count(*) from write.tracking_events") == 50


async def test_a_request_beyond_the_capacity_is_rejected_before_it_is_decoded(stack: Stack, sender: Registered) -> None:
    settings = {"TRACKING_BUFFER_EVENTS": "50", "TRACKING_COMMIT_DEADLINE_S": "60"}
    body = b'{"events": [' + b"x" * 20_000
    headers = {"Content-Type": "application/json", "X-Api-Key": sender.api_key}
    async with (
        run_services(stack, "gateway", settings=settings) as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        owner = await stack.write()
        idle = await client.post("/api/events/batch", content=body, headers=headers)
        async with owner.transaction():
            await owner.execute("lock table write.tracking_events in access exclusive mode")
            sending = [asyncio.create_task(client.post(INGEST, json=an_envelope(sender))) for _ in range(60)]
            await until(lambda: _done(sending), lambda done: len(done) >= 10)
            full = await client.post("/api/events/batch", content=body, headers=headers)
        await asyncio.gather(*sending)

    assert (idle.status_code, idle.json()["code"]) == (400, "malformed_json")
    assert (full.status_code, full.json()["code"]) == (503, "overloaded")
    assert int(full.headers["Retry-After"]) >= 1


async def _done(tasks: list[asyncio.Task[httpx.Response]]) -> list[httpx.Response]:
    return [task.result() for task in tasks if task.done()]


async def test_a_gateway_that_is_stopped_loses_nothing_it_acknowledged(stack: Stack, sender: Registered) -> None:
    acknowledged: list[str] = []

    async def keep_sending(client: httpx.AsyncClient, name: int) -> None:
        for number in range(10_000):
            try:
                event_id = f"{name}-{number}"
                response = await client.post(INGEST, json=an_envelope(sender, eventId=event_id))
            except httpx.TransportError:
                return
            assert response.status_code in (202, 503)
            if response.status_code == 202:
                acknowledged.append(event_id)

    async with (
        run_services(stack, "gateway") as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        sending = [asyncio.create_task(keep_sending(client, name)) for name in range(10)]
        await until(lambda: _length(acknowledged), lambda number: number > 200)
        await services.stop("gateway")
        await asyncio.gather(*sending)

    owner = await stack.write()
    stored = {row["message_id"] for row in await owner.fetch("select message_id from write.tracking_events")}
    assert stored >= set(acknowledged)
    # what was committed last was published too: nothing is left to the relay
    assert await owner.fetchval("select count(*) from write.event_batches where published_at is null") == 0


async def _length(things: list[str]) -> int:
    return len(things)


async def test_while_a_gateway_drains_each_answer_is_the_last_of_its_connection(
    stack: Stack, sender: Registered
) -> None:
    async with (
        run_services(stack, "gateway", settings={"TRACKING_DRAIN_DELAY_S": "8"}) as services,
        http_client(base_url=services.url("gateway")) as client,
    ):
        before = await client.post(INGEST, json=an_envelope(sender))
        services.signal("gateway", signal.SIGTERM)
        await until(lambda: client.get("/health/ready"), lambda ready: ready.status_code == 503)
        single = await client.post(INGEST, json=an_envelope(sender))
        batch = await client.post("/api/events/batch", json={"apiKey": sender.api_key, "events": [an_envelope(sender)]})

    assert "connection" not in before.headers
    answers = [(answer.status_code, answer.headers["connection"]) for answer in (single, batch)]
    assert answers == [(202, "close")] * 2


async def test_a_port_that_is_taken_is_said_in_one_line(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            "TRACKING_PORT": str(taken.getsockname()[1]),
            "TRACKING_WRITE_DATABASE_URL": stack.write_url("gateway"),
            "TRACKING_REDIS_URL": stack.redis_url,
            "TRACKING_RABBITMQ_URL": stack.rabbitmq_url,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.gateway",
            env={**os.environ, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)

    assert process.returncode == 1
    assert "Traceback" not in output.decode()
    assert f"cannot listen on 127.0.0.1:{environment['TRACKING_PORT']}" in output.decode()
    assert "listens on" not in output.decode()


async def test_a_missing_setting_is_named(stack: Stack) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.gateway",
        env={name: value for name, value in os.environ.items() if not name.startswith("TRACKING_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)

    assert process.returncode == 1
    assert "TRACKING_WRITE_DATABASE_URL: Field required" in output.decode()
    assert "Traceback" not in output.decode()
