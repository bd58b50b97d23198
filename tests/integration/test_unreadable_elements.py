"""On every route that takes several events, one that cannot be read costs the others nothing."""

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

UNREADABLE = b'{"eventName":"lost","event":"lost","type":"track","userId":"u","eventProperties":{"a":undefined}}'
SELECT_STORED = """
select event_name, is_valid, event_properties, validation_errors
  from write.tracking_events
 order by event_name
"""
# how an event and a message are named, and what stands for the event's properties
EVENT = b'{"eventName":"%b","userId":"u","eventProperties":{"value":%b}}'
MESSAGE = b'{"type":"track","event":"%b","userId":"u","properties":{"value":%b}}'
ROUTES = {
    "batch": ("/api/events/batch", b'{"events":[%b]}', EVENT, "application/json"),
    "array": ("/api/events/batch", b"[%b]", EVENT, "application/json"),
    "sdk": ("/v1/batch", b'{"batch":[%b],"sentAt":"2026-01-01T00:00:00Z"}', MESSAGE, "application/json"),
    "beacon": ("/v1/beacon", b'{"batch":[%b]}', MESSAGE, "text/plain"),
}


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


@pytest.fixture
async def client(services: ServiceProcesses, admin: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A sender with a key."""
    headers = {"X-Api-Key": (await a_system(admin))["apiKey"]}
    async with http_client(base_url=services.url("gateway"), headers=headers, timeout=20) as client:
        yield client


async def stored(stack: Stack) -> dict[str, tuple[Any, list[str]]]:
    """The value and the codes of the errors, by the event's name."""
    rows = await (await stack.write()).fetch(SELECT_STORED)
    found = {}
    for row in rows:
        errors = [error["code"] for error in json.loads(row["validation_errors"] or "[]")]
        assert row["is_valid"] is not bool(errors)
        found[row["event_name"]] = (json.loads(row["event_properties"]).get("value"), errors)
    return found


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("is_compressed", [False, True], ids=["plain", "gzip"])
async def test_each_element_of_a_batch_is_read_alone(
    stack: Stack, client: httpx.AsyncClient, admin: httpx.AsyncClient, route: str, is_compressed: bool
) -> None:
    path, batch, event, content_type = ROUTES[route]
    elements = [
        event % (b"a_good", b"1"),
        event % (b"b_nan", b"NaN"),
        event % (b"c_infinity", b"-Infinity"),
        event % (b"d_too_large", b"1e999"),
        UNREADABLE,
        event % (b"e_no_utf_8", b'"caf\xe9"'),
        event % (b"f_surrogate", b'"\\ud83d"'),
        event % (b"g_control", b'"a\tb"'),
        event % (b"h_good", b"2"),
    ]
    body = batch % b",\n".join(elements)
    headers = {"Content-Type": content_type}
    if is_compressed:
        body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}

    answer = await client.post(path, content=body, headers=headers)

    assert answer.status_code in (200, 202), answer.text
    told = answer.json()
    assert (told["accepted"], told["invalid"], told["refused"]) == (8, 6, 1)
    rejected = told["refusals"][0] if "refusals" in told else {"index": 4, **told["results"][4]}
    assert (rejected["index"], rejected["code"]) == (4, "malformed_json")
    assert await stored(stack) == {
        "a_good": (1, []),
        "b_nan": (None, ["number_out_of_range"]),
        "c_infinity": (None, ["number_out_of_range"]),
        "d_too_large": (None, ["number_out_of_range"]),
        "e_no_utf_8": ("caf\ufffd", ["invalid_utf8"]),
        "f_surrogate": ("\ufffd", ["nul_character"]),
        "g_control": ("a\tb", ["control_character"]),
        "h_good": (2, []),
    }
    [kept] = await until(lambda: rejected_events(admin), bool)
    assert (kept["position"], kept["reason"], kept["raw"]) == (4, "malformed_json", UNREADABLE.decode())


async def rejected_events(admin: httpx.AsyncClient) -> list[dict[str, Any]]:
    return list((await admin.get("/api/refused")).json()["items"])


async def test_a_large_batch_with_half_a_surrogate_pair_is_stored(stack: Stack, client: httpx.AsyncClient) -> None:
    filler = EVENT % (b"filler", b'"%b"' % (b"x" * 60_000))
    body = b"[%b,%b]" % (b",".join([filler] * 30), EVENT % (b"cut", b'"\\ud83d"'))

    answer = await client.post("/api/events/batch", content=body)

    assert answer.json()["accepted"] == 31
    assert (await stored(stack))["cut"] == ("\ufffd", ["nul_character"])


@pytest.mark.parametrize(("path", "event"), [("/api/events/ingest", EVENT), ("/v1/track", MESSAGE)])
async def test_a_single_event_is_read_in_the_same_way(
    stack: Stack, client: httpx.AsyncClient, path: str, event: bytes
) -> None:
    for name, value in {b"a": b"NaN", b"b": b'"\xff"', b"c": b'"\n"', b"d": b"9" * 400}.items():
        answer = await client.post(path, content=b"\xef\xbb\xbf" + event % (name, value))
        assert answer.status_code in (200, 202), answer.text
        assert answer.json()["isValid"] is False

    assert await stored(stack) == {
        "a": (None, ["number_out_of_range"]),
        "b": ("\ufffd", ["invalid_utf8"]),
        "c": ("\n", ["control_character"]),
        "d": (None, ["number_out_of_range"]),
    }


async def test_the_lines_of_ndjson_are_read_in_the_same_way(stack: Stack, client: httpx.AsyncClient) -> None:
    lines = [EVENT % (b"a", b"1"), EVENT % (b"b", b"NaN"), UNREADABLE, EVENT % (b"c", b'"\xff"')]

    answer = await client.post("/api/events/batch", content=b"\r\n".join(lines))

    assert (answer.json()["accepted"], answer.json()["refused"]) == (3, 1)
    assert await stored(stack) == {
        "a": (1, []),
        "b": (None, ["number_out_of_range"]),
        "c": ("\ufffd", ["invalid_utf8"]),
    }


async def test_a_batch_that_ends_early_keeps_what_was_whole(stack: Stack, client: httpx.AsyncClient) -> None:
    whole = EVENT % (b"a", b"1")

    answer = await client.post("/api/events/batch", content=b'{"events":[%b,%b' % (whole, whole[:-5]))

    assert (answer.json()["accepted"], answer.json()["refused"]) == (1, 1)
    assert await stored(stack) == {"a": (1, [])}
