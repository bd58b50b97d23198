"""What SDKs fetch before they send, and the paths on which they send beside `/v1/track` and the like."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.gateway.http.browser import GIF
from tests.support.http_client import http_client
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

ORIGIN = {"Origin": "https://shop.example"}
MESSAGE = {"type": "track", "event": "click", "anonymousId": "a", "properties": {"n": 1}}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Of a gateway alone."""
    async with (
        run_services(stack, "gateway") as services,
        http_client(base_url=services.url("gateway"), timeout=20) as client,
    ):
        yield client


async def stored(stack: Stack) -> list[tuple[Any, ...]]:
    owner = await stack.write()
    rows = await owner.fetch(
        "select event_name, event_type, user_id, anonymous_id, event_properties ->> 'color'"
        " from write.tracking_events order by received_at, id"
    )
    return [tuple(row) for row in rows]


async def test_segments_settings_send_the_sdk_to_this_host(client: httpx.AsyncClient, sender: Registered) -> None:
    answer = await client.get(f"/v1/projects/{sender.api_key}/settings", headers=ORIGIN)
    behind_tls = await client.get(
        f"/v1/projects/{sender.api_key}/settings/",
        headers={"Host": "track.example.com", "X-Forwarded-Proto": "https"},
    )

    destination = answer.json()["integrations"]["Segment.io"]
    assert (answer.status_code, destination["apiKey"], destination["protocol"]) == (200, sender.api_key, "http")
    assert destination["apiHost"] == f"{client.base_url.host}:{client.base_url.port}/v1"
    assert list(answer.json()["integrations"]) == ["Segment.io"]
    assert answer.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    destination = behind_tls.json()["integrations"]["Segment.io"]
    assert (destination["apiHost"], destination["protocol"]) == ("track.example.com/v1", "https")


async def test_rudderstacks_source_is_enabled_and_has_no_destinations(
    client: httpx.AsyncClient, sender: Registered
) -> None:
    by_query = await client.get("/sourceConfig/", params={"p": "web", "writeKey": sender.api_key}, headers=ORIGIN)
    by_basic = await client.get("/sourceConfig", auth=(sender.api_key, ""))

    for answer in (by_query, by_basic):
        source = answer.json()["source"]
        assert (answer.status_code, source["writeKey"], source["enabled"]) == (200, sender.api_key, True)
        assert (source["destinations"], source["config"]["statsCollection"]["errors"]["enabled"]) == ([], False)
    assert by_query.headers["access-control-allow-origin"] == ORIGIN["Origin"]


@pytest.mark.parametrize("path", ["/sourceConfig", "/v1/projects/k/settings"])
async def test_a_page_may_ask_for_settings_with_headers_of_its_own(client: httpx.AsyncClient, path: str) -> None:
    asked = {**ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}

    preflight = await client.options(path, headers=asked)

    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert (await client.post(path)).status_code == 405


async def test_settings_without_a_key_say_where_to_put_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/sourceConfig")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
    assert "writeKey" in answer.json()["message"]


async def test_rudderstacks_own_paths_store_events(client: httpx.AsyncClient, stack: Stack, sender: Registered) -> None:
    key = {"writeKey": sender.api_key}
    beacon = await client.post("/beacon/v1/batch", params=key, json={"batch": [MESSAGE]}, headers=ORIGIN)
    tracked = await client.get(
        "/pixel/v1/track", params={**key, "event": "opened", "anonymousId": "b", "properties.color": "red"}
    )
    viewed = await client.get("/pixel/v1/page", params={**key, "anonymousId": "b"}, headers=ORIGIN)

    assert (beacon.status_code, beacon.json()["accepted"]) == (200, 1)
    assert (tracked.status_code, tracked.content, viewed.status_code) == (200, GIF, 200)
    assert viewed.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert sorted(await stored(stack), key=str) == [
        ("click", None, None, "a", None),
        ("opened", None, None, "b", "red"),
        ("page", "page", None, "b", None),
    ]


async def test_a_merge_of_two_ids_is_an_alias_and_any_other_one_is_kept(
    client: httpx.AsyncClient, stack: Stack, sender: Registered
) -> None:
    def merge(*pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
        return {"mergeProperties": [{"type": kind, "value": value} for kind, value in pairs], **more}

    auth = (sender.api_key, "")
    ids = await client.post("/v1/merge", json=merge(("anonymousId", "a"), ("userId", "ann")), auth=auth)
    emails = await client.post("/v1/merge", json=merge(("email", "a@x.example"), ("phone", "1")), auth=auth)
    batch = [merge(("userId", "ann"), ("userId", "bob"), type="merge"), {"type": "merge", "userId": "ann"}]
    together = await client.post("/v1/batch", json={"batch": batch}, auth=auth)

    assert (ids.status_code, emails.status_code) == (200, 200)
    assert (together.status_code, together.json()["refused"]) == (200, 0)
    found = await (await stack.write()).fetch(
        "select event_name, event_type, user_id, event_properties ->> 'previousId' from write.tracking_events"
    )
    assert sorted(map(tuple, found), key=str) == [
        ("alias", "alias", "ann", "a"),
        ("alias", "alias", "ann", "bob"),
        ("merge", None, "a@x.example", None),
        ("merge", None, "ann", None),
    ]


@pytest.mark.parametrize(
    "path", ["/v1/batch/", "//v1/batch", "/v1//batch/", "/v1/b/", "/v1/beacon/", "/api/events/batch/"]
)
async def test_a_slash_too_many_is_no_other_path(client: httpx.AsyncClient, sender: Registered, path: str) -> None:
    event = {"eventName": "x", **MESSAGE}
    body = {"batch": [MESSAGE], "events": [event]}

    answer = await client.post(
        str(client.base_url).rstrip("/") + path, json=body, headers={"X-Api-Key": sender.api_key}
    )

    assert answer.status_code in (200, 202), answer.text
    assert answer.json()["accepted"] == 1


async def test_a_path_that_does_not_exist_is_still_404(client: httpx.AsyncClient) -> None:
    for path in ("/v1/bat", "/v1/batch/x", "/beacon/v2/batch", "/pixel/v1/odd", "/v1/projects//settings"):
        assert (await client.post(path, json={})).status_code == 404
