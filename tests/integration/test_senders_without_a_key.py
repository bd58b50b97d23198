"""Senders whose key is not known cost little before they are turned away, and nothing that known senders need."""

import asyncio
import base64
import gzip
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from deploy.local.server import random_secret
from tests.support import raw_http
from tests.support.dead_letters import metric
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

INGEST, BATCH, SDK_BATCH = "/api/events/ingest", "/api/events/batch", "/v1/batch"
MIB = 1024 * 1024
# a quarter of the first is for unknown senders, and one body's size of it for each address
SETTINGS = {
    "TRACKING_BODIES_BYTES": str(8 * MIB),
    "TRACKING_BODY_BYTES": str(MIB),
    "TRACKING_INFLATED_BYTES": str(4 * MIB),
    "TRACKING_CACHE_TTL_S": "600",
    "TRACKING_QUERY_TIMEOUT_S": "60",
}
ADDRESS_BYTES_A_SECOND, PIECE_BYTES = 2 * MIB, 256 * 1024
EVENT = {"eventName": "page_view", "userId": "u"}


# a body of it becomes a tenth when it is compressed: it is not refused for its ratio
TEXT = "".join(random_secret(100) + "y" * 900 for _ in range(64))


def a_text(length: int) -> str:
    return (TEXT * (length // len(TEXT) + 1))[:length]


def made_up_key() -> str:
    return f"sk_{random_secret()}"


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """A gateway with small limits."""
    async with run_services(stack, "gateway", settings=SETTINGS) as services:
        yield services


@pytest.fixture
async def client(services: ServiceProcesses) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key."""
    async with http_client(base_url=services.url("gateway"), timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


def a_head(path: str, body_bytes: int, *lines: str) -> bytes:
    fixed = [f"POST {path} HTTP/1.1", "Host: gateway", f"Content-Length: {body_bytes}"]
    return "\r\n".join([*fixed, *lines, "", ""]).encode()


def beside_the_body(key: str) -> list[tuple[str, list[str]]]:
    """The query and the headers for each place of a key outside of the body."""
    basic = base64.b64encode(f"{key}:".encode()).decode()
    headers = [f"X-Api-Key: {key}", f"Authorization: Bearer {key}", f"Authorization: Basic {basic}"]
    return [*(("", [line]) for line in headers), (f"?apiKey={key}", []), (f"?writeKey={key}", [])]


@pytest.mark.parametrize("path", [INGEST, BATCH, SDK_BATCH, "/v1/track", "/v1/beacon"])
async def test_a_key_beside_the_body_is_checked_before_the_body_arrives(services: ServiceProcesses, path: str) -> None:
    for query, headers in beside_the_body(made_up_key()):
        head = a_head(path + query, 100_000, *headers)

        answer = await raw_http.exchange(services.url("gateway"), head, b'{"eventName"')

        assert (answer.status, answer.json()["code"]) == (401, "unknown_api_key"), (query, headers)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_nothing_is_decompressed_for_a_wrong_key(client: httpx.AsyncClient, encoding: str) -> None:
    headers = {"X-Api-Key": made_up_key(), "Content-Encoding": encoding}

    answer = await client.post(BATCH, content=b"\x1f\x8bthis is not compressed", headers=headers)

    # if it were decompressed, it would be 400
    assert (answer.status_code, answer.json()["code"]) == (401, "unknown_api_key")


@pytest.mark.parametrize("path", [INGEST, BATCH, SDK_BATCH])
@pytest.mark.parametrize("is_compressed", [False, True])
async def test_a_large_body_is_not_parsed_for_a_wrong_key_in_it(
    client: httpx.AsyncClient, path: str, is_compressed: bool
) -> None:
    for member, code in ((f'"apiKey":"{made_up_key()}"', "unknown_api_key"), ('"a":1', "missing_api_key")):
        body = f'{{"broken":,"x":"{a_text(100_000)}",{member}}}'.encode()

        answer = await client.post(path, content=gzip.compress(body) if is_compressed else body)

        # if it were parsed, it would be 400
        assert (answer.status_code, answer.json()["code"]) == (401, code)


async def test_what_an_address_may_have_decompressed_is_bounded_and_others_go_on(
    client: httpx.AsyncClient, services: ServiceProcesses, sender: Registered
) -> None:
    bomb = gzip.compress(json.dumps({"apiKey": made_up_key(), "events": [], "x": a_text(3 * MIB)}).encode())
    counter = "tracking_unknown_sender_bytes_total"

    began = time.monotonic()
    answers = [await client.post(BATCH, content=bomb, headers={"X-Forwarded-For": "203.0.113.7"}) for _ in range(30)]
    worked = await metric(services, "gateway", counter)
    took_s = time.monotonic() - began

    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 503}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 503)
    assert worked <= 4 * MIB + PIECE_BYTES + ADDRESS_BYTES_A_SECOND * took_s
    # the same address with a key, and another address without
    known = {"X-Forwarded-For": "203.0.113.7"}
    whole = {"events": [EVENT], "x": a_text(MIB // 2), "apiKey": sender.api_key}
    assert (await client.post(BATCH, json=whole, headers=known)).status_code == 202
    compressed = {**known, "X-Api-Key": sender.api_key, "Content-Encoding": "gzip"}
    content = gzip.compress(json.dumps(whole).encode())
    assert (await client.post(BATCH, content=content, headers=compressed)).status_code == 202
    assert (await client.post(INGEST, json={**EVENT, "apiKey": sender.api_key}, headers=known)).status_code == 202
    assert (await client.post(BATCH, content=bomb, headers={"X-Forwarded-For": "203.0.113.8"})).status_code == 401


async def test_many_addresses_share_one_bound(client: httpx.AsyncClient, services: ServiceProcesses) -> None:
    bomb = gzip.compress(json.dumps({"events": [], "x": a_text(3 * MIB)}).encode())

    began = time.monotonic()
    answers = [
        await client.post(BATCH, content=bomb, headers={"X-Forwarded-For": f"203.0.113.{number}"})
        for number in range(60)
    ]
    worked = await metric(services, "gateway", "tracking_unknown_sender_bytes_total")
    took_s = time.monotonic() - began

    assert {answer.status_code for answer in answers} == {401, 503}
    assert worked <= 8 * MIB + PIECE_BYTES + 4 * ADDRESS_BYTES_A_SECOND * took_s


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_who_is_known_by_the_key_in_the_body_has_no_such_bound(
    client: httpx.AsyncClient, sender: Registered, is_compressed: bool
) -> None:
    # the key last, as SDKs send it
    body = json.dumps({"events": [EVENT], "x": a_text(MIB - 1_000), "apiKey": sender.api_key}).encode()

    content = gzip.compress(body) if is_compressed else body
    answers = [(await client.post(BATCH, content=content)).status_code for _ in range(40)]

    assert answers == [202] * 40


async def test_stalled_bodies_of_unknown_senders_take_no_room_of_known_ones(
    services: ServiceProcesses, client: httpx.AsyncClient, sender: Registered
) -> None:
    large = {"events": [EVENT], "x": a_text(MIB - 1_000)}
    async with AsyncExitStack() as stalled:
        readers = []
        for number in range(40):
            reader, writer = await stalled.enter_async_context(raw_http.connected(services.url("gateway")))
            writer.write(a_head(BATCH, MIB, f"X-Forwarded-For: 203.0.113.{number % 20}") + b"x" * (MIB - 1_000))
            await writer.drain()
            readers.append(reader)
        # more than its share is turned away; the others wait, and none of them in the way of a known sender
        turned_away = [asyncio.ensure_future(reader.readline()) for reader in readers]
        await until(_count_done(turned_away), lambda count: count >= 37)

        answers = await asyncio.gather(
            *(client.post(BATCH, json=large, headers={"X-Api-Key": sender.api_key}) for _ in range(4))
        )

        assert [answer.status_code for answer in answers] == [202] * 4
        assert {line.result() for line in turned_away if line.done()} == {b"HTTP/1.1 503 Service Unavailable\r\n"}
        assert not all(line.done() for line in turned_away)
        for line in turned_away:
            line.cancel()


def _count_done(tasks: list[Any]) -> Any:
    async def count() -> int:
        return sum(task.done() for task in tasks)

    return count


async def test_made_up_keys_take_one_connection_and_are_remembered(stack: Stack, sender: Registered) -> None:
    owner = await stack.write()
    # the limit of the role would end the wait that shows how many connections are taken
    database = await owner.fetchval("select quote_ident(current_database())")
    await owner.execute(f"alter role tracking_gateway in database {database} set lock_timeout = 0")
    settings = {**SETTINGS, "TRACKING_CACHE_TTL_S": str(PATIENCE_S)}
    async with (
        run_services(stack, "gateway", settings=settings) as services,
        http_client(base_url=services.url("gateway"), timeout=PATIENCE_S) as client,
    ):
        await ask_with_made_up_keys(client, owner, sender)


async def ask_with_made_up_keys(client: httpx.AsyncClient, owner: Any, sender: Registered) -> None:
    remembered, keys = made_up_key(), [made_up_key() for _ in range(200)]

    async def ask(key: str, client: httpx.AsyncClient = client) -> int:
        return (await client.post(INGEST, json=EVENT, headers={"X-Api-Key": key})).status_code

    async def count_waiting() -> int:
        statement = (
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return int(await owner.fetchval(statement))

    assert [await ask(remembered), await ask(sender.api_key)] == [401, 202]
    # the requests that wait take all connections of their client
    async with http_client(base_url=client.base_url, timeout=PATIENCE_S) as other, owner.transaction():
        await owner.execute("lock table write.api_keys in access exclusive mode")
        asking = [asyncio.create_task(ask(key)) for key in keys]
        await until(count_waiting, lambda count: count == 1)
        # neither needs the database: what is no key, and what is known to be none
        for nothing in ("sk_x", "tk_" + 32 * "a", "sk_" + 32 * "-", "sk_" + 500 * "a", "\u00e4" * 35):
            header = {b"X-Api-Key": nothing.encode("latin-1")}
            assert (await other.post(INGEST, json=EVENT, headers=header)).status_code == 401
        assert [await ask(remembered, other), await ask(sender.api_key, other)] == [401, 202]
        assert await count_waiting() == 1

    assert await asyncio.gather(*asking) == [401] * 200


async def test_a_new_key_works_though_it_was_asked_for_before_it_existed(
    client: httpx.AsyncClient, stack: Stack, sender: Registered
) -> None:
    key = made_up_key()
    headers = {"X-Api-Key": key}
    assert (await client.post(INGEST, json=EVENT, headers=headers)).status_code == 401
    owner = await stack.write()

    await owner.execute(
        "update write.api_keys set key_sha256 = sha256($1::bytea) where partner_system_id = $2",
        key.encode(),
        sender.system_id,
    )

    async def status() -> int:
        return (await client.post(INGEST, json=EVENT, headers=headers)).status_code

    assert await until(status, lambda status: status == 202) == 202


async def test_a_key_that_is_revoked_while_its_body_arrives_stores_nothing(
    services: ServiceProcesses, client: httpx.AsyncClient, stack: Stack, sender: Registered
) -> None:
    body = json.dumps(EVENT).encode()
    headers = {"X-Api-Key": sender.api_key}
    assert (await client.post(f"{INGEST}?dryRun=true", json=EVENT, headers=headers)).status_code == 202
    owner = await stack.write()
    async with raw_http.connected(services.url("gateway")) as (reader, writer):
        writer.write(a_head(INGEST, len(body), f"X-Api-Key: {sender.api_key}") + body[:10])

        await owner.execute("update write.api_keys set revoked_at = now()")

        async def status() -> int:
            return (await client.post(f"{INGEST}?dryRun=true", json=EVENT, headers=headers)).status_code

        await until(status, lambda status: status == 401)
        writer.write(body[10:])
        assert await reader.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    assert await owner.fetchval("select count(*) from write.tracking_events") == 0
