"""Rejected events of authenticated senders are recorded for a person, with reason and raw text but without keys."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

NO_EVENT = {"userId": "u", "eventProperties": {"total": 1}}
GOOD = {"eventName": "order", "userId": "u"}


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """A gateway and admin."""
    async with run_services(stack, "gateway", "admin") as services:
        yield services


@pytest.fixture
async def admin(services: ServiceProcesses) -> AsyncIterator[httpx.AsyncClient]:
    """The administrator."""
    async with administrator(services) as admin:
        yield admin


async def post(services: ServiceProcesses, path: str, key: str, **request: Any) -> httpx.Response:
    headers = {"X-Api-Key": key, **request.pop("headers", {})}
    async with http_client(base_url=services.url("gateway"), headers=headers, timeout=20) as client:
        return await client.post(path, **request)


async def kept(admin: httpx.AsyncClient, number: int, **filters: Any) -> list[dict[str, Any]]:
    """The kept ones, newest first, once there are so many."""

    async def ask() -> list[dict[str, Any]]:
        response = await admin.get("/api/refused", params=filters)
        assert response.status_code == 200, response.text
        return list(response.json()["items"])

    return await until(ask, lambda items: len(items) >= number)


async def test_of_a_batch_each_rejected_event_is_kept_with_its_place_and_what_was_sent(
    services: ServiceProcesses, admin: httpx.AsyncClient
) -> None:
    system = await a_system(admin)
    body = {"apiKey": system["apiKey"], "events": [GOOD, NO_EVENT, "text", GOOD]}
    answer = await post(services, "/api/events/batch", system["apiKey"], json=body)
    assert answer.json()["refused"] == 2

    items = sorted(await kept(admin, 2), key=lambda item: item["position"])

    assert [(item["position"], item["reason"]) for item in items] == [(1, "invalid_event"), (2, "invalid_event")]
    first = items[0]
    assert json.loads(first["raw"]) == NO_EVENT
    assert first["details"] == [{"field": "eventName", "message": "required"}]
    assert first["route"] == "/api/events/batch"
    assert first["partnerSystemId"] == system["id"]
    assert first["systemName"] == "Site"
    assert first["correlationId"] == answer.headers["x-correlation-id"]
    alone = await admin.get(f"/api/refused/{first['id']}")
    assert alone.json() == first


async def test_a_line_that_is_no_json_and_a_message_of_an_sdk_are_kept_as_they_came(
    services: ServiceProcesses, admin: httpx.AsyncClient
) -> None:
    key = (await a_system(admin))["apiKey"]
    await post(services, "/api/events/batch", key, content=json.dumps(GOOD).encode() + b'\n{"eventName": oh\n')
    message = {"type": "unheard", "userId": 5}
    await post(services, "/v1/batch", key, json={"batch": [message]})

    items = await kept(admin, 2)

    assert {item["raw"] for item in items} == {'{"eventName": oh', json.dumps(message, separators=(",", ":"))}


@pytest.mark.parametrize(
    ("path", "content", "headers", "reason"),
    [
        ("/api/events/ingest", b'{"eventName": ', {}, "malformed_json"),
        ("/api/events/ingest", json.dumps(NO_EVENT).encode(), {}, "invalid_event"),
        ("/api/events/batch", b'{"events": 5}', {}, "invalid_batch"),
        ("/v1/track", b"\xff\xfe", {}, "malformed_json"),
        ("/v1/batch", b"no gzip", {"Content-Encoding": "br"}, "malformed_encoding"),
        ("/api/events/ingest", b'{"eventName": "\\ud800', {}, "malformed_json"),
    ],
)
async def test_a_request_that_is_rejected_whole_is_kept_as_it_came(
    services: ServiceProcesses,
    admin: httpx.AsyncClient,
    path: str,
    content: bytes,
    headers: dict[str, str],
    reason: str,
) -> None:
    key = (await a_system(admin))["apiKey"]
    answer = await post(services, path, key, content=content, headers=headers)
    assert answer.status_code == 400

    [item] = await kept(admin, 1)

    assert item["reason"] == reason
    assert item["position"] is None
    assert item["raw"] == content.decode(errors="replace")
    assert item["rawBytes"] == len(content)


async def test_a_body_that_was_not_read_is_kept_by_its_length(
    services: ServiceProcesses, admin: httpx.AsyncClient
) -> None:
    key = (await a_system(admin))["apiKey"]
    answer = await post(services, "/api/events/batch", key, content=b" " * (6 * 1024 * 1024))
    assert answer.status_code == 413

    [item] = await kept(admin, 1)

    assert (item["reason"], item["raw"], item["rawBytes"]) == ("body_too_large", None, 6 * 1024 * 1024)


async def test_a_compressed_body_is_kept_readable_and_cut(services: ServiceProcesses, admin: httpx.AsyncClient) -> None:
    key = (await a_system(admin))["apiKey"]
    body = b'{"a": "' + b" ".join(b"%d" % number for number in range(20_000))
    await post(services, "/v1/batch", key, content=gzip.compress(body), headers={"Content-Encoding": "gzip"})

    [item] = await kept(admin, 1)
    whole = (await admin.get(f"/api/refused/{item['id']}")).json()

    assert item["rawBytes"] == len(body)
    assert item["raw"] == body[:2_048].decode()
    assert whole["raw"] == body[: 64 * 1024].decode()


async def test_no_key_and_no_address_is_kept(
    services: ServiceProcesses, admin: httpx.AsyncClient, stack: Stack
) -> None:
    system = await a_system(admin)
    key = system["apiKey"]
    other = "sk_" + "A1" * 16
    body = b'{"writeKey": "x-%b", "context": {"ip": "203.0.113.77"}, "events": [{"k": "%b", "o": "%b"}' % (
        b"secret-word",
        key.encode(),
        other.encode(),
    )
    await post(services, "/api/events/batch", key, content=body)

    await kept(admin, 1)
    owner = await stack.write()
    raw = await owner.fetchval("select raw from write.refused_events")

    for secret in (key, other, "secret-word", "203.0.113.77"):
        assert secret.encode() not in raw


async def test_where_privacy_rules_apply_only_the_reason_is_kept(
    services: ServiceProcesses, admin: httpx.AsyncClient
) -> None:
    system = await a_system(admin)
    rules = {"privacyRules": [{"path": "$.properties.email", "action": "drop"}]}
    changed = await admin.patch(f"/api/partnersystems/{system['id']}", json={"settings": rules})
    assert changed.status_code == 200, changed.text
    await post(services, "/api/events/ingest", system["apiKey"], json=NO_EVENT)

    [item] = await kept(admin, 1)

    assert item["raw"] is None
    assert item["rawBytes"] > 0


async def test_an_unknown_sender_and_a_dry_run_leave_nothing(
    services: ServiceProcesses, admin: httpx.AsyncClient
) -> None:
    key = (await a_system(admin))["apiKey"]
    await post(services, "/api/events/ingest", "sk_" + "0" * 32, json=NO_EVENT)
    await post(services, "/api/events/ingest?dryRun=true", key, json=NO_EVENT)
    await post(services, "/api/events/batch?dryRun=true", key, json={"events": [NO_EVENT]})
    await post(services, "/api/events/batch?dryRun=true", key, content=b"{")
    await post(services, "/api/events/ingest", key, json={**NO_EVENT, "userId": 5})

    items = await kept(admin, 1)

    assert [item["raw"] for item in items] == [json.dumps({**NO_EVENT, "userId": 5}, separators=(",", ":"))]


async def test_the_list_filters_and_pages(services: ServiceProcesses, admin: httpx.AsyncClient) -> None:
    one, two = await a_system(admin), await a_system(admin)
    await post(services, "/api/events/batch", one["apiKey"], json={"events": [NO_EVENT] * 5})
    await post(services, "/api/events/ingest", two["apiKey"], content=b"{")
    await kept(admin, 6)

    page = (await admin.get("/api/refused", params={"pageSize": 2, "pageNumber": 3})).json()
    of_one = (await admin.get("/api/refused", params={"partnerSystemId": one["id"]})).json()
    malformed = (await admin.get("/api/refused", params={"reason": "malformed_json"})).json()
    wrong = await admin.get("/api/refused", params={"reason": "a b"})
    nothing = await admin.get("/api/refused/019b4fe1-9c40-7d2a-8f3b-5b2e6c9d1a01")

    assert (page["totalCount"], len(page["items"])) == (6, 2)
    assert of_one["totalCount"] == 5
    assert [item["partnerSystemId"] for item in malformed["items"]] == [two["id"]]
    assert wrong.status_code == 400
    assert nothing.status_code == 404


async def test_of_a_flood_the_newest_thousand_of_a_system_are_kept(
    services: ServiceProcesses, admin: httpx.AsyncClient, stack: Stack
) -> None:
    flooding, quiet = await a_system(admin), await a_system(admin)
    owner = await stack.write()
    await post(services, "/api/events/ingest", quiet["apiKey"], content=b"{")
    await kept(admin, 1)
    await owner.execute(
        """insert into write.refused_events
           select gen_random_uuid(), $1, now(), '/api/events/batch', null, 'invalid_event', 'old', '[]', null, 0, 'c'
             from generate_series(1, 3000)""",
        flooding["id"],
    )
    # those are older: a random UUID sorts anywhere, so give them ids that begin with zeros
    await owner.execute(
        "update write.refused_events set id = ('00000000' || substr(id::text, 9))::uuid where message = 'old'"
    )

    for _ in range(3):
        await post(services, "/api/events/batch", flooding["apiKey"], json={"events": [NO_EVENT] * 2_500})

    async def of_system() -> tuple[int, int]:
        row = await owner.fetchrow(
            "select count(*), count(*) filter (where message <> 'old') from write.refused_events"
            " where partner_system_id = $1",
            flooding["id"],
        )
        assert row is not None
        return int(row[0]), int(row[1])

    total, new = await until(of_system, lambda counts: counts[1] >= 100)
    assert total == 1_000
    assert new < 2_500 * 3, "a second takes a hundred of one system"
    assert await owner.fetchval("select count(*) from write.refused_events where partner_system_id = $1", quiet["id"])


async def test_a_thirty_first_day_is_the_last(stack: Stack) -> None:
    owner = await stack.write()
    await owner.execute(
        """insert into write.refused_events
           select gen_random_uuid(), gen_random_uuid(), now() - make_interval(days => age), '/', null, 'r', 'm', '[]',
                  null, 0, 'c'
             from unnest(array[1, 29, 31, 400]) as age"""
    )

    async def count() -> int:
        return int(await owner.fetchval("select count(*) from write.refused_events"))

    async with run_services(stack, "relay"):
        assert await until(count, lambda number: number <= 2) == 2
