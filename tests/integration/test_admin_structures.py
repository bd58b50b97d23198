"""Event structures and their versions through the administration."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.admin_api import NOBODY, SCHEMA, a_partner, administrator, cached
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.contracts import cache_entries


@pytest.fixture
async def services(stack: Stack) -> AsyncIterator[ServiceProcesses]:
    """The administration alone."""
    async with run_services(stack, "admin") as services:
        yield services


@pytest.fixture
async def admin(services: ServiceProcesses) -> AsyncIterator[httpx.AsyncClient]:
    """With the first admin token."""
    async with administrator(services) as client:
        yield client


async def test_a_structure_has_versions_that_are_published_and_deprecated(admin: httpx.AsyncClient) -> None:
    created = await admin.post("/api/eventstructures", json={"eventName": "purchase", "schema": SCHEMA})
    path = created.headers["Location"]

    draft = await admin.post(f"{path}/versions", json={"schema": '{"required": ["total"]}', "publish": False})
    twice = await admin.post("/api/eventstructures", json={"eventName": "purchase", "schema": True})
    published = await admin.post(f"{path}/versions/2/publish")
    again = await admin.post(f"{path}/versions/2/publish")
    deprecated = await admin.post(f"{path}/versions/1/deprecate")
    missing = await admin.post(f"{path}/versions/9/publish")

    assert (created.status_code, draft.status_code) == (201, 201)
    assert (draft.json()["version"], draft.json()["status"]) == (2, "draft")
    assert (twice.status_code, twice.json()["code"]) == (409, "event_structure_exists")
    assert published.json()["status"] == "published"
    assert (again.status_code, again.json()["code"]) == (409, "version_not_draft")
    assert deprecated.json()["status"] == "deprecated"
    assert missing.status_code == 404
    shown = (await admin.get(path)).json()
    assert shown["currentVersion"] == 2
    assert [version["schema"] for version in shown["versions"]] == [SCHEMA, {"required": ["total"]}]


async def test_versions_that_are_added_at_once_count_without_gaps(admin: httpx.AsyncClient) -> None:
    created = await admin.post("/api/eventstructures", json={"eventName": "purchase", "schema": SCHEMA})
    path = created.headers["Location"]

    answers = await asyncio.gather(*(admin.post(f"{path}/versions", json={"schema": SCHEMA}) for _ in range(8)))

    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 10))


async def test_a_draft_that_is_published_by_many_at_once_is_published_once(admin: httpx.AsyncClient) -> None:
    body = {"eventName": "purchase", "schema": SCHEMA, "publish": False}
    path = (await admin.post("/api/eventstructures", json=body)).headers["Location"]

    answers = await asyncio.gather(*(admin.post(f"{path}/versions/1/publish") for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"version_not_draft"}


async def test_the_schema_of_a_published_version_cannot_be_changed_by_anybody(
    admin: httpx.AsyncClient, stack: Stack
) -> None:
    path = (await admin.post("/api/eventstructures", json={"eventName": "p", "schema": SCHEMA})).headers["Location"]

    answers = [await admin.request(method, f"{path}/versions/1", json={"schema": True}) for method in ("PUT", "PATCH")]
    owner = await stack.write()
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="immutable"):
        await owner.execute("update write.event_structure_versions set schema = 'true'")

    assert {answer.status_code for answer in answers} == {405}
    assert (await admin.get(f"{path}/versions/1")).json()["schema"] == SCHEMA


async def test_every_change_of_a_version_moves_the_structures_time(admin: httpx.AsyncClient) -> None:
    body = {"eventName": "p", "schema": SCHEMA, "publish": False}
    path = (await admin.post("/api/eventstructures", json=body)).headers["Location"]

    times = [(await admin.get(path)).json()["updatedAt"]]
    for change in ("versions/1/publish", "versions/1/deprecate"):
        await admin.post(f"{path}/{change}")
        times.append((await admin.get(path)).json()["updatedAt"])

    assert times == sorted(set(times))


async def test_a_structure_is_found_by_its_event_name(admin: httpx.AsyncClient) -> None:
    for name in ("a", "b", "B"):
        await admin.post("/api/eventstructures", json={"eventName": name, "schema": True, "description": name})

    found = (await admin.get("/api/eventstructures", params={"eventName": "b"})).json()

    assert [(item["eventName"], item["currentVersion"], item["latestVersion"]) for item in found["items"]] == [
        ("b", 1, 1)
    ]
    assert (found["totalCount"], found["pageNumber"], found["pageSize"]) == (1, 1, 100)
    shown = (await admin.get(f"/api/eventstructures/{found['items'][0]['id']}")).json()
    assert [version["schema"] for version in shown["versions"]] == [True]
    listed = (await admin.get(f"/api/eventstructures/{shown['id']}/versions")).json()
    assert listed == {"items": shown["versions"], "totalCount": 1}


async def test_a_partners_own_structure_stands_beside_the_global_one(admin: httpx.AsyncClient) -> None:
    partner_id = await a_partner(admin)
    own = f"/api/partners/{partner_id}/eventstructures"
    body = {"eventName": "purchase", "schema": SCHEMA}

    made = [(await admin.post(path, json=body)).status_code for path in ("/api/eventstructures", own, own)]

    assert made == [201, 201, 409]
    assert [item["partnerId"] for item in (await admin.get(own)).json()["items"]] == [partner_id]
    assert [item["partnerId"] for item in (await admin.get("/api/eventstructures")).json()["items"]] == [None]
    unknown = await admin.post(f"/api/partners/{NOBODY}/eventstructures", json=body)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "partner_not_found")


async def test_what_was_published_stands_in_redis_without_drafts(admin: httpx.AsyncClient, stack: Stack) -> None:
    partner_id = await a_partner(admin)
    for path in ("/api/eventstructures", f"/api/partners/{partner_id}/eventstructures"):
        location = (await admin.post(path, json={"eventName": "p", "schema": SCHEMA})).headers["Location"]
        await admin.post(f"{location}/versions", json={"schema": True})
        await admin.post(f"{location}/versions", json={"schema": False, "publish": False})
        await admin.post(f"{location}/versions/1/deprecate")
        owner = None if path == "/api/eventstructures" else partner_id

        entry = json.loads(await cached(stack, cache_entries.make_event_structure_cache_key(owner, "p")) or b"")

        assert entry == {
            "structureId": location.rpartition("/")[2],
            "versions": [{"version": 1, "schema": SCHEMA}, {"version": 2, "schema": True}],
        }


BAD_SCHEMAS: list[tuple[Any, str]] = [
    (None, "#"),
    (1, "#"),
    ([], "#"),
    ("{", "schema"),
    ('"{}"', "#"),
    ({"type": "nothing"}, "#/type"),
    ({"$ref": "http://localhost/schema"}, "#/$ref"),
    ({"description": "x" * 70_000}, "#"),
    ({"const": "a\x00b"}, "schema"),
]


async def test_a_schema_that_is_none_is_rejected_and_nothing_is_kept(admin: httpx.AsyncClient) -> None:
    good = (await admin.post("/api/eventstructures", json={"eventName": "p", "schema": SCHEMA})).headers["Location"]
    for schema, field in BAD_SCHEMAS:
        answers = [
            await admin.post("/api/eventstructures", json={"eventName": "bad", "schema": schema}),
            await admin.post(f"{good}/versions", json={"schema": schema}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_schema"), (schema, answer.text)
            assert field in [detail["field"] for detail in answer.json()["details"]], schema

    assert (await admin.get("/api/eventstructures", params={"eventName": "bad"})).json()["totalCount"] == 0
    assert (await admin.get(f"{good}/versions")).json()["totalCount"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"schema": SCHEMA}, "eventName"),
        ({"eventName": "a"}, "schema"),
        ({"eventName": " ", "schema": SCHEMA}, "eventName"),
        ({"eventName": "a\x00", "schema": SCHEMA}, "eventName"),
        ({"eventName": "x" * 201, "schema": SCHEMA}, "eventName"),
        ({"eventName": "a", "schema": SCHEMA, "publish": "yes"}, "publish"),
        ({"eventName": "a", "schema": SCHEMA, "description": "x" * 1001}, "description"),
    ],
)
async def test_a_bad_structure_names_the_field(admin: httpx.AsyncClient, body: Any, field: str) -> None:
    response = await admin.post("/api/eventstructures", json=body)

    assert response.status_code == 400, response.text
    assert [detail["field"] for detail in response.json()["details"]] == [field]


async def test_a_structure_that_is_not_there_is_404(admin: httpx.AsyncClient) -> None:
    known = (await admin.post("/api/eventstructures", json={"eventName": "p", "schema": SCHEMA})).headers["Location"]

    for path in (
        f"/api/eventstructures/{NOBODY}",
        "/api/eventstructures/no-id",
        f"/api/partners/{NOBODY}/eventstructures",
    ):
        assert (await admin.get(path)).status_code == 404
    assert (await admin.get(f"/api/eventstructures/{NOBODY}/versions")).status_code == 404
    assert (await admin.post(f"/api/eventstructures/{NOBODY}/versions", json={"schema": True})).status_code == 404
    for number in ("0", "2", "x", "-1", "9" * 30):
        answers = [await admin.get(f"{known}/versions/{number}")]
        answers += [await admin.post(f"{known}/versions/{number}/{verb}") for verb in ("publish", "deprecate")]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "version_not_found")}
