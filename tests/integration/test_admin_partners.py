"""Partners and their systems through the administration: every route, good and bad."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.admin_api import NOBODY, a_partner, a_system, administrator
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack


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


async def test_a_partner_is_registered_shown_changed_and_listed(admin: httpx.AsyncClient) -> None:
    created = await admin.post("/api/partners", json={"name": " Acme Corp ", "email": "admin@acme.com"})

    assert created.status_code == 201
    assert set(created.json()) == {"id", "name", "email", "isActive"}
    assert created.json()["name"] == "Acme Corp"
    location = created.headers["Location"]
    changed = await admin.patch(location, json={"name": "Acme Inc"})
    shown = await admin.get(location)
    assert changed.json() == shown.json()
    assert (shown.json()["name"], shown.json()["email"]) == ("Acme Inc", "admin@acme.com")
    listed = (await admin.get("/api/partners", params={"email": "ADMIN@acme.com"})).json()
    assert [item["id"] for item in listed["items"]] == [created.json()["id"]]
    assert (listed["totalCount"], listed["pageNumber"], listed["pageSize"]) == (1, 1, 100)


async def test_an_address_belongs_to_one_partner(admin: httpx.AsyncClient) -> None:
    await a_partner(admin, "one@acme.com")
    other = await a_partner(admin, "two@acme.com")

    again = await admin.post("/api/partners", json={"name": "B", "email": "ONE@acme.com"})
    moved = await admin.put(f"/api/partners/{other}", json={"email": "one@acme.com"})

    assert (again.status_code, again.json()["code"]) == (409, "email_taken")
    assert (moved.status_code, moved.json()["code"]) == (409, "email_taken")


async def test_pages_of_a_list_hold_each_partner_once(admin: httpx.AsyncClient) -> None:
    made = [await a_partner(admin, f"p{n}@acme.com") for n in range(5)]

    pages = [(await admin.get("/api/partners", params={"pageNumber": n, "pageSize": 2})).json() for n in (1, 2, 3, 4)]

    assert [item["id"] for page in pages for item in page["items"]] == made
    assert {page["totalCount"] for page in pages} == {5}


async def test_a_partner_is_deactivated_and_activated_as_often_as_one_likes(admin: httpx.AsyncClient) -> None:
    path = f"/api/partners/{await a_partner(admin)}"

    off = [(await admin.post(f"{path}/deactivate")).json() for _ in range(2)]
    listed = [(await admin.get("/api/partners", params={"isActive": state})).json() for state in ("true", "false")]
    on = [(await admin.post(f"{path}/activate")).json() for _ in range(2)]

    assert off[0] == off[1]
    assert not off[0]["isActive"]
    assert off[0]["deactivatedAt"]
    assert [page["totalCount"] for page in listed] == [0, 1]
    assert on[0] == on[1]
    assert on[0]["isActive"]
    assert on[0]["deactivatedAt"] is None


async def test_two_partners_that_ask_for_one_address_at_once_do_not_both_get_it(admin: httpx.AsyncClient) -> None:
    body = {"name": "A", "email": "one@acme.com"}

    answers = await asyncio.gather(*(admin.post("/api/partners", json=body) for _ in range(5)))

    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]


async def test_a_system_is_registered_shown_changed_and_listed(admin: httpx.AsyncClient) -> None:
    partner_id = await a_partner(admin)
    other = await a_system(admin)
    body = {"partnerId": partner_id, "name": " Acme Website ", "type": 1, "description": "Main corporate website"}

    created = await admin.post("/api/partnersystems", json=body)

    assert created.status_code == 201
    assert set(created.json()) == {"id", "partnerId", "name", "type", "description", "apiKey", "isActive"}
    assert (created.json()["name"], created.json()["type"], created.json()["isActive"]) == ("Acme Website", 1, True)
    location = created.headers["Location"]
    changed = await admin.patch(location, json={"type": 99, "description": ""})
    shown = await admin.get(location)
    assert changed.json() == shown.json()
    assert (shown.json()["name"], shown.json()["type"], shown.json()["description"]) == ("Acme Website", 99, "")
    for filters, ids in (
        ({"partnerId": partner_id}, [created.json()["id"]]),
        ({}, [other["id"], created.json()["id"]]),
        ({"partnerId": NOBODY}, []),
    ):
        listed = (await admin.get("/api/partnersystems", params=filters)).json()
        assert [item["id"] for item in listed["items"]] == ids
        assert listed["totalCount"] == len(ids)


async def test_a_system_is_deactivated_and_activated(admin: httpx.AsyncClient) -> None:
    path = f"/api/partnersystems/{(await a_system(admin))['id']}"

    off = (await admin.post(f"{path}/deactivate")).json()
    inactive = (await admin.get("/api/partnersystems", params={"isActive": False})).json()
    on = (await admin.post(f"{path}/activate")).json()

    assert (off["isActive"], on["isActive"]) == (False, True)
    assert inactive["items"] == [off]


async def test_the_description_of_a_system_may_be_left_out(admin: httpx.AsyncClient) -> None:
    response = await admin.post(
        "/api/partnersystems", json={"partnerId": await a_partner(admin), "name": "A", "type": 4}
    )

    assert (response.status_code, response.json()["description"]) == (201, "")


async def test_a_system_of_an_unknown_partner_is_404(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/api/partnersystems", json={"partnerId": NOBODY, "name": "A", "type": 1})

    assert (response.status_code, response.json()["code"]) == (404, "partner_not_found")


BAD_BODIES = [
    ("/api/partners", {"email": "a@b.cd"}, "name"),
    ("/api/partners", {"name": "", "email": "a@b.cd"}, "name"),
    ("/api/partners", {"name": "  ", "email": "a@b.cd"}, "name"),
    ("/api/partners", {"name": "x" * 201, "email": "a@b.cd"}, "name"),
    ("/api/partners", {"name": 1, "email": "a@b.cd"}, "name"),
    ("/api/partners", {"name": "A\x00", "email": "a@b.cd"}, "name"),
    ("/api/partners", {"name": "A"}, "email"),
    ("/api/partners", {"name": "A", "email": "no address"}, "email"),
    ("/api/partners", {"name": "A", "email": "x" * 250 + "@b.cd"}, "email"),
    ("/api/partners", {"name": "A", "email": "a@b.cd", "extra": 1}, "extra"),
    ("/api/partnersystems", {"partnerId": "x", "name": "A", "type": 1}, "partnerId"),
    ("/api/partnersystems", {"name": "A", "type": 1}, "partnerId"),
    ("/api/partnersystems", {"partnerId": NOBODY, "name": "A", "type": 7}, "type"),
    ("/api/partnersystems", {"partnerId": NOBODY, "name": "A", "type": True}, "type"),
    ("/api/partnersystems", {"partnerId": NOBODY, "name": "A", "type": "1"}, "type"),
    ("/api/partnersystems", {"partnerId": NOBODY, "name": "A", "type": 1, "description": "x" * 1001}, "description"),
]


async def test_a_bad_body_names_the_field(admin: httpx.AsyncClient) -> None:
    for path, body, field in BAD_BODIES:
        response = await admin.post(path, json=body)

        assert response.status_code == 400, (body, response.text)
        assert field in [detail["field"] for detail in response.json()["details"]], body


async def test_a_bad_change_names_the_field_and_changes_nothing(admin: httpx.AsyncClient) -> None:
    system = await a_system(admin)
    paths = {f"/api/partners/{system['partnerId']}": "email", f"/api/partnersystems/{system['id']}": "description"}

    for path, field in paths.items():
        before = (await admin.get(path)).json()
        response = await admin.put(path, json={"name": "New", field: "\x00" * 5})
        assert response.status_code == 400
        assert [detail["field"] for detail in response.json()["details"]] == [field]
        assert (await admin.get(path)).json() == before


async def test_a_body_that_is_no_object_is_rejected(admin: httpx.AsyncClient) -> None:
    for body in (b"", b"{", b"\xff", b"[]", b'"x"', b"null", b'{"name": "a"} x'):
        response = await admin.post("/api/partners", content=body)

        assert response.status_code == 400, body
        assert response.json()["correlationId"] == response.headers["X-Correlation-ID"]


async def test_a_body_without_end_is_rejected(admin: httpx.AsyncClient) -> None:
    response = await admin.post("/api/partners", content=b'{"name":"' + b"x" * 300_000)

    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "query",
    [
        "pageNumber=0",
        "pageSize=1001",
        "pageSize=x",
        "pageNumber=99999999999999999999",
        "nothing=1",
        "isActive=maybe",
        "email=a&email=b",
        "email=%00",
    ],
)
async def test_a_bad_parameter_of_a_list_is_named(admin: httpx.AsyncClient, query: str) -> None:
    response = await admin.get(f"/api/partners?{query}")

    assert response.status_code == 400
    assert [detail["field"] for detail in response.json()["details"]] == [query.partition("=")[0]]


async def test_what_is_not_there_is_404(admin: httpx.AsyncClient) -> None:
    for path in (
        f"/api/partners/{NOBODY}",
        "/api/partners/no-id",
        f"/api/partnersystems/{NOBODY}",
        "/api/partnersystems/1",
    ):
        answers = [await admin.get(path), await admin.put(path, json={"name": "A"})]
        answers += [await admin.post(f"{path}/{verb}") for verb in ("deactivate", "activate")]

        assert {answer.status_code for answer in answers} == {404}, path
        assert all(set(answer.json()) == {"code", "message", "correlationId"} for answer in answers)


async def test_a_partner_is_never_deleted(admin: httpx.AsyncClient) -> None:
    response = await admin.delete(f"/api/partners/{await a_partner(admin)}")

    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
