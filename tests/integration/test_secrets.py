"""Keys, tokens and passwords appear only where they are used. Everything that the processes write is searched."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import httpx
import pytest
from redis.asyncio import Redis

from deploy.local.services import SERVICES
from tests.support.admin_api import a_partner, administrator
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S, until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.contracts import topology
from tracking.infra import rabbitmq

INGEST, BATCH = "/api/events/ingest", "/api/events/batch"
UNKNOWN_KEY, UNKNOWN_TOKEN = "sk_Unknown0Key1Unknown2Key3Unknown4", "tk_Unknown0Token1Unknown2Token34"
PASSED_KEY = "sk_Wrongly0Placed1Wrongly2Placed3Wr"

_TABLES = """
select format('select row_to_json(t)::text from %I.%I t', schemaname, tablename)
  from pg_tables
 where schemaname not in ('pg_catalog', 'information_schema')
"""


class Sink:
    """Takes traces as an OTLP collector would."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            self.bodies.append(head + await reader.readexactly(length))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
        writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


@asynccontextmanager
async def a_sink() -> AsyncIterator[Sink]:
    sink = Sink()
    server = await asyncio.start_server(sink.take, "127.0.0.1", 0)
    sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/traces"
    async with server:
        yield sink


async def passwords(stack: Stack) -> dict[str, str]:
    """Return the passwords in the addresses that a process gets, by purpose."""
    urls = {f"write as {role}": stack.write_url(role) for role in ("gateway", "admin", "relay")}
    urls |= {f"read as {role}": stack.read_url(role) for role in ("query", "projector", "statistics", "relay")}
    urls |= {"redis": stack.redis_url, "rabbitmq": stack.rabbitmq_url}
    found = {what: urlsplit(url).password or "" for what, url in urls.items()}
    # one that is as short as "guest" stands in names of other things
    return {what: password for what, password in found.items() if len(password) >= 8}


async def a_copy_of_every_message(stack: Stack) -> list[bytes]:
    """Return the messages of a queue that the test has bound to the exchange of events."""
    connection = await aio_pika.connect(stack.rabbitmq_url, timeout=PATIENCE_S)
    found: list[bytes] = []
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue("copies", ensure=False)
        while (message := await queue.get(no_ack=True, fail=False, timeout=PATIENCE_S)) is not None:
            found.append(rabbitmq.decode_body(message) + repr(message.properties).encode())
    return found


async def listen_for_messages(stack: Stack) -> None:
    connection = await aio_pika.connect(stack.rabbitmq_url, timeout=PATIENCE_S)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(topology.EVENTS_EXCHANGE, aio_pika.ExchangeType.FANOUT, durable=True)
        queue = await channel.declare_queue("copies", durable=True)
        await queue.bind(exchange)


async def all_of_redis(stack: Stack) -> list[bytes]:
    found: list[bytes] = []
    async with Redis.from_url(stack.redis_url) as redis:
        async for key in redis.scan_iter():
            found += [key, repr(await redis.get(key) if await redis.type(key) == b"string" else key).encode()]
    return found


async def all_rows(connection: Any) -> list[bytes]:
    statements = [row[0] for row in await connection.fetch(_TABLES)]
    assert len(statements) > 5
    return [row[0].encode() for statement in statements for row in await connection.fetch(statement)]


async def traffic_of_a_sender(gateway: httpx.AsyncClient, key: str) -> list[httpx.Response]:
    """Every place a key can stand in, good and bad requests, and keys where they do not belong."""
    event = {"eventName": "page_view", "userId": "u", "eventProperties": {"page": "/"}}
    placed: list[dict[str, Any]] = [
        {"headers": {"X-Api-Key": key}},
        {"headers": {"Authorization": f"Bearer {key}"}},
        {"headers": {"Authorization": f"Basic {key}"}},
        {"auth": (key, "")},
        {"params": {"apiKey": key}},
        {"params": {"writeKey": key}},
        {"params": {"apiKey": key, "nonsense": key}},
        {"headers": {"X-Api-Key": UNKNOWN_KEY}},
        {"params": {"apiKey": UNKNOWN_KEY}},
        {"headers": {"X-Api-Key": f"{key} {key}"}},
    ]
    answers = [await gateway.post(path, json=event, **place) for place in placed for path in (INGEST, BATCH)]
    in_body: list[Any] = [{**event, "apiKey": key}, {"apiKey": key, "events": [event, {}, 5, {"eventName": 1}]}]
    in_body += [{"apiKey": key}, {"apiKey": [key]}, {**event, "apiKey": UNKNOWN_KEY}, [{**event, "apiKey": key}]]
    answers += [await gateway.post(path, json=body) for body in in_body for path in (INGEST, BATCH)]
    whole = json.dumps({**event, "apiKey": key})
    broken = [whole[:-1], whole + "x", whole.replace(":", "", 1), f'{{"apiKey": "{key}', f'"{key}"', f"{key}\n{key}"]
    answers += [await gateway.post(path, content=body) for body in broken for path in (INGEST, BATCH)]
    answers += [
        await gateway.get(f"/nowhere?apiKey={key}"),
        await gateway.get(INGEST, params={"apiKey": key}),
        await gateway.post(INGEST, content=whole, headers={"Content-Encoding": "gzip"}),
        await gateway.post(INGEST, json=event, headers={"X-Api-Key": key, "Content-Encoding": key}),
        await gateway.post(INGEST, json={**event, "eventTimestamp": "x"}, headers={"X-Api-Key": key}),
        await gateway.post(
            INGEST, json=event, headers={"X-Api-Key": key, "traceparent": f"00-{key}-00", "tracestate": key}
        ),
    ]
    return answers


async def traffic_of_an_administrator(
    services: ServiceProcesses, admin: httpx.AsyncClient, tokens: Mapping[str, str], system_id: str
) -> list[httpx.Response]:
    answers: list[httpx.Response] = []
    for url, path in (
        (services.url("admin"), "/api/partners"),
        (services.url("query"), f"/api/events/partner-system/{system_id}"),
        (services.url("query"), f"/api/events/partner-system/{system_id}/statistics"),
    ):
        async with http_client(base_url=url, timeout=20) as client:
            for token in tokens.values():
                answers += [
                    await client.get(path, headers={"Authorization": f"Bearer {token}"}),
                    await client.get(path, headers={"Authorization": token}),
                    await client.get(path, headers={"Authorization": f"Basic {token}"}),
                    await client.get(path, params={"token": token, "access_token": token}),
                    await client.get(path, headers={"Authorization": f"Bearer {token}"}, params={"nonsense": "1"}),
                    await client.post(path, headers={"Authorization": f"Bearer {token}"}, content=b"{"),
                ]
    answers += [
        await admin.post("/api/partners", json={"name": "x", "secret": PASSED_KEY}),
        await admin.post("/api/partners", content=f'{{"name": "{PASSED_KEY}"'),
        await admin.post("/api/tokens", json={"name": "t", "scope": "read", "token": PASSED_KEY}),
        await admin.post("/api/tokens", json={"name": "t", "scope": PASSED_KEY}),
        await admin.post(f"/api/partnersystems/{system_id}/apikeys", json={"name": "k", "key": PASSED_KEY}),
        await admin.post("/api/eventstructures", json={"eventName": "e", "schema": PASSED_KEY}),
    ]
    return answers


def forms(secret: str) -> list[bytes]:
    """The secret as it may be written."""
    return [secret.encode(), quote(secret, safe="").encode(), secret.encode().hex().encode()]


async def test_no_secret_is_written_anywhere(stack: Stack, tmp_path: Path) -> None:
    await listen_for_messages(stack)
    log_file = tmp_path / "rolling" / "service.log"
    async with a_sink() as sink:
        settings = {
            "TRACKING_OTLP_ENDPOINT": sink.url,
            "TRACKING_TRACE_SAMPLE_RATIO": "1",
            "TRACKING_LOG_LEVEL": "DEBUG",
            "TRACKING_LOG_FILE": str(log_file),
            # so that Redis and the databases are really asked
            "TRACKING_CACHE_TTL_S": "1",
        }
        async with run_services(stack, *SERVICES, settings=settings) as services, administrator(services) as admin:
            partner = await a_partner(admin)
            system = {"partnerId": partner, "name": "Site", "type": 1, "description": ""}
            registered = (await admin.post("/api/partnersystems", json=system)).json()
            keys = f"/api/partnersystems/{registered['id']}/apikeys"
            issued = (await admin.post(keys, json={"name": "second"})).json()
            rotated = (await admin.post(f"{keys}/{issued['id']}/rotate", json={})).json()
            of_partner = {"scope": "read", "partnerId": partner}
            tokens = {"bootstrap token": services.admin_token, "unknown token": UNKNOWN_TOKEN}
            for name, body in {"admin token": {"scope": "admin"}, "read token": of_partner}.items():
                tokens[name] = (await admin.post("/api/tokens", json={"name": name, **body})).json()["token"]
            api_keys = {"key": registered["apiKey"], "second key": issued["apiKey"], "third key": rotated["apiKey"]}

            async with http_client(base_url=services.url("gateway"), timeout=20) as gateway:
                answers = [a for key in api_keys.values() for a in await traffic_of_a_sender(gateway, key)]
            answers += await traffic_of_an_administrator(services, admin, tokens, registered["id"])
            read = await stack.read()
            sent = sum(answer.status_code == 202 for answer in answers)
            assert sent >= 20
            await until(
                lambda: read.fetchval("select count(*) from read.tracking_events_read_model"),
                lambda found: found >= sent,
            )

            written: dict[str, list[bytes]] = {"answers": [a.content + repr(a.headers).encode() for a in answers]}
            for service in SERVICES:
                async with http_client(base_url=services.url(service), timeout=20) as client:
                    pages = [await client.get(page) for page in ("/metrics", "/health/ready", "/openapi/v1.json")]
                written[f"pages of {service}"] = [page.content for page in pages]
            written["Redis"] = await all_of_redis(stack)
            # the last spans and lines are written at the end
            await services.stop(*SERVICES)
            for service in SERVICES:
                written[f"log of {service}"] = [services.log(service).encode()]
        written["log files"] = [file.read_bytes() for file in log_file.parent.iterdir()]
        written["messages"] = await a_copy_of_every_message(stack)
        written["write database"] = await all_rows(await stack.write())
        written["read database"] = await all_rows(read)
        written["traces"] = sink.bodies

    secrets = {**api_keys, **tokens, "unknown key": UNKNOWN_KEY, "misplaced key": PASSED_KEY, **await passwords(stack)}
    assert len(secrets) > 10
    for place, texts in written.items():
        assert texts, place
    leaks = [
        f"{name} in {place}: …{text[max(0, at - 80) : at + 20]!r}"
        for name, secret in secrets.items()
        for place, texts in written.items()
        for text in texts
        for form in forms(secret)
        if (at := text.find(form)) >= 0
    ]
    assert leaks == []


@pytest.mark.parametrize("what", ["wrong passwords", "nobody there"])
async def test_no_password_is_written_when_nothing_can_be_reached(stack: Stack, what: str) -> None:
    secret = "Hunter2Hunter2Hunter2"

    def spoiled(url: str) -> str:
        parts = urlsplit(url)
        port = parts.port if what == "wrong passwords" else 1
        return parts._replace(netloc=f"{parts.username or ''}:{secret}@{parts.hostname}:{port}").geturl()

    settings = {
        "TRACKING_REDIS_URL": spoiled(stack.redis_url),
        "TRACKING_RABBITMQ_URL": spoiled(stack.rabbitmq_url),
        "TRACKING_WRITE_DATABASE_URL": spoiled(stack.write_url("gateway")),
        "TRACKING_READ_DATABASE_URL": spoiled(stack.read_url("query")),
        "TRACKING_LOG_LEVEL": "DEBUG",
    }
    texts: list[str] = []
    async with run_services(stack, settings=settings) as services:
        services.launch(*SERVICES)
        for service in SERVICES:
            async with http_client(base_url=services.url(service), timeout=20) as client:

                async def ready(client: httpx.AsyncClient = client) -> httpx.Response | None:
                    try:
                        return await client.get("/health/ready")
                    except httpx.TransportError:
                        return None

                answer = await until(ready, lambda found: found is not None)
                assert answer is not None
                assert answer.status_code == 503, (service, answer.text)
                texts.append(answer.text)
                headers = {"Authorization": "Bearer tk_x", "X-Api-Key": UNKNOWN_KEY}
                paths = {"gateway": INGEST, "admin": "/api/partners", "query": f"/api/events/{'0' * 32}"}
                if service in paths:
                    method = "POST" if service == "gateway" else "GET"
                    event = {"eventName": "a", "userId": "u"}
                    rejected = await client.request(method, paths[service], headers=headers, json=event)
                    assert rejected.status_code == 503, (service, rejected.text)
                    texts.append(rejected.text)
                texts.append((await client.get("/metrics")).text)
        logs = {service: services.log(service) for service in SERVICES}

    assert all(logs.values())
    assert [service for service, log in logs.items() if secret in log] == []
    assert not any(secret in text for text in texts)
