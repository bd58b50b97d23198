"""The fast path of a single event, tested by bytes on a socket: it gives the same responses as the usual path."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

INGEST = "/api/events/ingest"


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """A gateway alone, which has seen the key; its commits may wait for long."""
    async with run_services(stack, "gateway", settings={"TRACKING_COMMIT_DEADLINE_S": "60"}) as services:
        await Connection.ask(services, a_request(sender))
        yield services


def a_request(sender: Registered, event_id: str = "", *, target: str = INGEST, more: str = "", **fields: Any) -> bytes:
    envelope = {"eventName": "page_view", "anonymousId": "a", **({"eventId": event_id} if event_id else {}), **fields}
    body = json.dumps(envelope)
    head = f"POST {target} HTTP/1.1\r\nHost: t\r\nX-Api-Key: {sender.api_key}\r\n{more}Content-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}".encode()


class Connection:
    """One socket, read answer by answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, services: ServiceProcesses) -> AsyncIterator["Connection"]:
        """An open one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(services.url("gateway")).port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    @classmethod
    async def ask(cls, services: ServiceProcesses, request: bytes) -> tuple[int, dict[str, str], Any]:
        """One request on a connection of its own."""
        async with cls.to(services) as connection:
            connection.writer.write(request)
            return await connection.answer()

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers, json.loads(body)


async def stored(stack: Stack) -> int:
    return int(await stack.write_value("select count(*) from write.tracking_events"))


async def reach_buffered(services: ServiceProcesses, number: int) -> None:
    """Wait until so many events wait for their commit."""

    async def buffered() -> int:
        async with http_client(base_url=services.url("gateway")) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        [value] = [line.split()[1] for line in lines if line.startswith("tracking_gateway_buffered_events ")]
        return int(float(value))

    await until(buffered, lambda events: events == number)


async def is_listening(services: ServiceProcesses) -> bool:
    """Whether the gateway takes new connections."""
    try:
        async with Connection.to(services):
            return True
    except ConnectionError:
        return False


@asynccontextmanager
async def nothing_commits(stack: Stack) -> AsyncIterator[None]:
    """Commits wait inside."""
    owner = await stack.write()
    async with owner.transaction():
        await owner.execute("lock table write.tracking_events in access exclusive mode")
        yield


async def test_both_ways_answer_alike(services: ServiceProcesses, sender: Registered) -> None:
    requests: list[dict[str, Any]] = [
        {"event_id": "e1"},
        {"event_id": "e1"},
        {"eventProperties": "no object"},
        {"eventName": ""},
        {"eventName": "x" * 201},
        {"eventProperties": {"nul": "\x00"}},
    ]
    for fields in requests:
        short, long = [
            await Connection.ask(services, a_request(sender, target=target, more="X-Correlation-ID: c\r\n", **fields))
            for target in (INGEST, f"{INGEST}?long=1")
        ]
        if fields == {"event_id": "e1"}:
            short[2].pop("duplicate", None)
            assert long[2].pop("duplicate")
            assert short[2]["eventId"] == long[2]["eventId"]
        for answer in (short, long):
            answer[2].pop("eventId", None)
            answer[2].pop("receivedAt", None)
            answer[1].pop("content-length")
        assert short == long, fields


async def test_requests_sent_without_waiting_are_answered_in_their_order(
    services: ServiceProcesses, sender: Registered, stack: Stack
) -> None:
    before = await stored(stack)
    async with Connection.to(services) as connection:
        numbers = range(30)
        connection.writer.write(
            b"".join(a_request(sender, f"p{n}", more=f"X-Correlation-ID: c{n}\r\n") for n in numbers)
        )
        answers = [await connection.answer() for _ in numbers]

    assert [status for status, _, _ in answers] == [202] * 30
    assert [headers["x-correlation-id"] for _, headers, _ in answers] == [f"c{n}" for n in numbers]
    assert await stored(stack) == before + 30


async def test_a_request_in_many_pieces_is_one_request(
    services: ServiceProcesses, sender: Registered, stack: Stack
) -> None:
    before = await stored(stack)
    async with Connection.to(services) as connection:
        for _ in range(2):
            for byte in a_request(sender):
                connection.writer.write(bytes([byte]))
                await connection.writer.drain()
                await asyncio.sleep(0)
            assert (await connection.answer())[0] == 202

    assert await stored(stack) == before + 2


@pytest.mark.parametrize("more", ["Connection: close\r\n", "Expect: 100-continue\r\nConnection: close\r\n"])
async def test_a_connection_that_shall_close_is_closed_after_its_answer(
    services: ServiceProcesses, sender: Registered, more: str
) -> None:
    async with Connection.to(services) as connection:
        connection.writer.write(a_request(sender, more=more))
        if "Expect" in more:
            assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        status, headers, _ = await connection.answer()

        assert (status, headers["connection"]) == (202, "close")
        assert await connection.reader.read() == b""


async def test_an_event_whose_sender_has_gone_is_stored_and_others_are_answered(
    services: ServiceProcesses, sender: Registered, stack: Stack
) -> None:
    before = await stored(stack)
    async with Connection.to(services) as staying:
        async with nothing_commits(stack):
            async with Connection.to(services) as leaving:
                leaving.writer.write(a_request(sender))
                await reach_buffered(services, 1)
            staying.writer.write(a_request(sender))
        assert (await staying.answer())[0] == 202

    await until(lambda: stored(stack), lambda count: count == before + 2)


async def test_a_stop_waits_for_the_event_in_hand_and_for_the_one_half_sent(
    services: ServiceProcesses, sender: Registered, stack: Stack
) -> None:
    before = await stored(stack)
    half = a_request(sender)
    async with Connection.to(services) as whole, Connection.to(services) as begun:
        # the gateway reads from this one already, so it has the half before it has the whole of the other
        begun.writer.write(a_request(sender))
        assert (await begun.answer())[0] == 202
        async with nothing_commits(stack):
            begun.writer.write(half[:-5])
            whole.writer.write(a_request(sender))
            await reach_buffered(services, 1)
            stopping = asyncio.create_task(services.stop("gateway"))
            await until(lambda: is_listening(services), lambda listens: not listens)
            begun.writer.write(half[-5:])
        answers = [await whole.answer(), await begun.answer()]
        await stopping

    assert [(status, headers.get("connection")) for status, headers, _ in answers] == [(202, "close")] * 2
    assert await stored(stack) == before + 3
    await services.start("gateway")


async def test_without_a_commit_in_time_the_answer_is_503(stack: Stack, sender: Registered) -> None:
    async with run_services(stack, "gateway", settings={"TRACKING_COMMIT_DEADLINE_S": "0.5"}) as services:

        async def ask() -> tuple[int, dict[str, str], Any]:
            return await Connection.ask(services, a_request(sender))

        # on a busy machine a commit may miss the short deadline
        await until(ask, lambda answer: answer[0] == 202)
        async with nothing_commits(stack):
            status, headers, body = await ask()

        assert (status, headers["retry-after"], body["code"]) == (503, "2", "database_unavailable")
        await until(ask, lambda answer: answer[0] == 202)


async def test_a_deactivated_system_is_rejected_on_the_fast_path_too(stack: Stack) -> None:
    settings = {"TRACKING_CACHE_TTL_S": "600"}
    async with run_services(stack, "gateway", "admin", settings=settings) as services, administrator(services) as admin:
        system = await a_system(admin)
        sender = Registered(UUID(system["partnerId"]), UUID(system["id"]), system["apiKey"])
        assert (await Connection.ask(services, a_request(sender)))[0] == 202

        await admin.post(f"/api/partnersystems/{system['id']}/deactivate")

        answer = await until(lambda: Connection.ask(services, a_request(sender)), lambda answer: answer[0] == 403)
        assert answer[2]["code"] == "system_deactivated"


async def test_requests_are_measured_and_events_counted(services: ServiceProcesses, sender: Registered) -> None:
    for _ in range(3):
        await Connection.ask(services, a_request(sender))
    async with http_client(base_url=services.url("gateway")) as client:
        text = (await client.get("/metrics")).text

    lines = [line for line in text.splitlines() if INGEST in line or "volcanion_events_ingested" in line]
    counts = [float(line.rsplit(" ", 1)[1]) for line in lines if "_total{" in line]
    assert counts == [4.0, 4.0], lines
