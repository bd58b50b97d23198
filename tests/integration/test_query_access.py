"""The access of tokens to query, also while Redis or the database is unavailable."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from services.query.models import Event, EventList, Statistics
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.read_model import Seen, System, add_events, add_system, add_token
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.contracts import cache_entries
from tracking.contracts.cache_entries import AccessTokenEntry
from tracking.infra.redis import open_redis

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
OPEN = ["/health/live", "/health/ready", "/metrics", "/openapi/v1.json", "/scalar/v1"]


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """Query alone."""
    async with run_services(stack, "query") as services:
        yield services


@pytest.fixture
async def client(services: ServiceProcesses) -> AsyncIterator[httpx.AsyncClient]:
    """Without a token."""
    async with http_client(base_url=services.url("query"), timeout=20) as client:
        yield client


async def status(client: httpx.AsyncClient, path: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return (await client.get(path, headers=headers)).status_code


def paths(system: System, event: Seen) -> list[str]:
    listed = f"/api/events/partner-system/{system.id}"
    return [listed, f"{listed}/statistics", f"/api/events/{event.id}"]


async def test_nothing_but_health_metrics_and_documentation_is_open(client: httpx.AsyncClient) -> None:
    system, event = System(), Seen(NOON)

    assert [await status(client, path, None) for path in OPEN] == [200] * len(OPEN)
    for path in [*paths(system, event), "/", "/nowhere", "/health", "/metrics/", "/docs", "/openapi/v1.json/x"]:
        response = await client.get(path)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await client.post(path)).status_code == 401


HEADERS = ["", "Bearer", "Basic dGs6", "bearer x", "Bearer tk_unknown", "Bearer " + "x" * 5_000, "Bearer \xff"]


async def test_what_is_no_known_token_is_rejected(client: httpx.AsyncClient) -> None:
    for header in HEADERS:
        response = await client.get(f"/api/events/{uuid4()}", headers={b"Authorization": header.encode("latin-1")})

        assert response.status_code == 401, header
        assert response.json()["code"] in ("missing_token", "unknown_token")


async def test_a_token_that_has_ended_is_rejected(client: httpx.AsyncClient, stack: Stack) -> None:
    now, moment = datetime.now(UTC), timedelta(seconds=30)
    path = f"/api/events/{uuid4()}"

    async def code(expires_at: datetime | None = None, revoked_at: datetime | None = None) -> str:
        token = await add_token(stack, expires_at=expires_at, revoked_at=revoked_at)
        answer = (await client.get(path, headers={"Authorization": f"Bearer {token}"})).json()
        return str(answer["code"])

    assert await code() == await code(expires_at=now + moment) == "unknown_event"
    assert await code(expires_at=now - moment) == "expired_token"
    # admin's clock may be ahead of query's; a revoked token is rejected all the same
    assert await code(revoked_at=now - moment) == await code(revoked_at=now + moment) == "revoked_token"


async def test_a_token_of_one_partner_sees_nothing_of_another(client: httpx.AsyncClient, stack: Stack) -> None:
    mine, other = await add_system(stack), await add_system(stack)
    of_mine, of_other = Seen(NOON), Seen(NOON)
    await add_events(stack, mine, [of_mine])
    await add_events(stack, other, [of_other])
    token = await add_token(stack, partner_id=mine.partner_id)
    headers = {"Authorization": f"Bearer {token}", "X-Correlation-ID": "same"}

    for path in paths(mine, of_mine):
        assert await status(client, path, token) == 200
    nobodys = paths(System(), Seen(NOON))
    for path, unknown in zip(paths(other, of_other), nobodys, strict=True):
        hidden, missing = [await client.get(asked, headers=headers) for asked in (path, unknown)]
        assert hidden.status_code == 404
        assert hidden.json() == missing.json()
    for everything in (await add_token(stack), await add_token(stack, "admin")):
        assert [await status(client, path, everything) for path in paths(other, of_other)] == [200] * 3


async def test_a_system_that_is_not_copied_yet_is_empty_for_who_sees_all(
    client: httpx.AsyncClient, stack: Stack
) -> None:
    listed, counted, _ = paths(System(), Seen(NOON))

    for token in (await add_token(stack), await add_token(stack, "admin")):
        headers = {"Authorization": f"Bearer {token}"}
        events = (await client.get(listed, headers=headers)).json()
        counts = (await client.get(counted, headers=headers)).json()
        assert (events["events"], events["totalCount"]) == ([], 0)
        assert (counts["totalEvents"], counts["eventCounts"]) == (0, {})


@pytest.mark.parametrize(("generation", "expected"), [(1, 404), (0, 401), (10**9, 401)])
async def test_an_entry_in_redis_is_used_only_if_it_has_the_changes_that_are_known(
    client: httpx.AsyncClient, stack: Stack, generation: int, expected: int
) -> None:
    token, redis = "tk_cached", open_redis(stack.redis_url, timeout_s=5)
    # in no database, so that an answer other than 401 comes from this entry
    entry = AccessTokenEntry("admin", None, None, None, generation=generation)
    await redis.set(cache_entries.make_access_token_cache_key(sha256(token.encode()).hexdigest()), entry.encode())
    known = await add_token(stack)
    await until(lambda: status(client, f"/api/events/{uuid4()}", known), lambda code: code == 404)

    async def asked() -> int:
        return await status(client, f"/api/events/{uuid4()}", token)

    assert await until(asked, lambda code: code == expected) == expected
    await redis.aclose()


async def test_without_redis_every_answer_comes_from_the_database(stack: Stack) -> None:
    system = await add_system(stack)
    await add_events(stack, system, [Seen(NOON)])
    token = await add_token(stack)
    nowhere = {"TRACKING_REDIS_URL": "redis://127.0.0.1:1/0"}

    async with (
        run_services(stack, "query", settings=nowhere) as services,
        http_client(base_url=services.url("query"), timeout=20) as client,
    ):
        statuses = await asyncio.gather(*(status(client, path, token) for path in paths(system, Seen(NOON)) * 5))
        health = (await client.get("/health/ready")).json()

    assert sorted(set(statuses)) == [200, 404]
    assert health["status"] == "ready"
    assert health["checks"]["redis"] != "ok"


@pytest.mark.parametrize("database", ["write", "read"])
async def test_a_revoked_token_stops_working_though_no_invalidation_arrives(stack: Stack, database: str) -> None:
    token, path = await add_token(stack), f"/api/events/{uuid4()}"
    deaf = {"TRACKING_REDIS_URL": "redis://127.0.0.1:1/0", "TRACKING_TOKEN_CACHE_TTL_S": "600"}
    if database == "read":
        deaf["TRACKING_WRITE_DATABASE_URL"] = NO_DATABASE

    async with (
        run_services(stack, "query", settings=deaf) as services,
        http_client(base_url=services.url("query"), timeout=20) as client,
    ):
        assert await status(client, path, token) == 404
        owner = await (stack.write() if database == "write" else stack.read())
        await owner.execute(f"set search_path = {database}")
        await owner.execute("update access_tokens set revoked_at = now()")
        assert await until(lambda: status(client, path, token), lambda code: code == 401) == 401


async def test_a_slow_database_is_asked_once_for_a_token_though_redis_is_away(stack: Stack) -> None:
    token, owner = await add_token(stack), await stack.read()
    # every look-up takes longer than the pauses between attempts to reach Redis
    await owner.execute("alter table read.access_tokens rename to all_access_tokens")
    await owner.execute(
        "create view read.access_tokens as select t.* from read.all_access_tokens t, pg_sleep(1.5) as slowly"
    )
    await owner.execute("grant select on read.access_tokens to tracking_query")
    nowhere = {"TRACKING_REDIS_URL": "redis://127.0.0.1:1/0", "TRACKING_WRITE_DATABASE_URL": NO_DATABASE}

    async with (
        run_services(stack, "query", settings=nowhere) as services,
        http_client(base_url=services.url("query"), timeout=20) as client,
    ):
        assert await status(client, f"/api/events/{uuid4()}", token) == 404


async def test_without_its_database_it_asks_to_come_back_and_then_answers_again(stack: Stack) -> None:
    system, token = await add_system(stack), await add_token(stack)
    path = f"/api/events/partner-system/{system.id}"

    async with (
        run_services(stack, "query") as services,
        http_client(base_url=services.url("query"), timeout=20) as client,
    ):
        assert await status(client, path, token) == 200
        owner = await stack.read()
        name = await owner.fetchval("select current_database()")
        await owner.execute(f'alter database "{name}" with connection limit 0')
        await owner.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()",
            name,
        )
        response = await client.get(path, headers={"Authorization": f"Bearer {token}"})
        ready = await client.get("/health/ready")
        await owner.execute(f'alter database "{name}" with connection limit -1')

        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert response.json()["code"] == "database_unavailable"
        assert ready.status_code == 503
        assert await until(lambda: status(client, path, token), lambda code: code == 200) == 200


async def test_the_document_is_valid_and_says_what_is_needed(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi/v1.json")).json()

    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/api/events/partner-system/{partnerSystemId}",
        "/api/events/partner-system/{partnerSystemId}/statistics",
        "/api/events/{eventId}",
    }
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    for name in ("EventList", "Event", "Statistics"):
        assert document["components"]["schemas"][name]["examples"]


async def test_what_is_answered_is_what_the_document_says(client: httpx.AsyncClient, stack: Stack) -> None:
    system, event = await add_system(stack), Seen(NOON, is_valid=True)
    await add_events(stack, system, [event])
    headers = {"Authorization": f"Bearer {await add_token(stack)}"}
    december = {"startDate": "2025-12-01", "endDate": "2025-12-31"}
    listed, counted, one = paths(system, event)

    EventList.model_validate((await client.get(listed, headers=headers, params=december)).json())
    Statistics.model_validate((await client.get(counted, headers=headers, params=december)).json())
    Event.model_validate((await client.get(one, headers=headers)).json())
