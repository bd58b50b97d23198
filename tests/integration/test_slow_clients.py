"""Slow clients: each connection is closed within its deadline, whatever the client sends meanwhile."""

import asyncio
import re

import httpx
import pytest

from tests.support import raw_http
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.raw_http import SILENCE, RawResponse
from tests.support.registry import register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

DEADLINES = {
    "TRACKING_HEADER_TIMEOUT_S": "1",
    "TRACKING_BODY_TIMEOUT_S": "2",
    "TRACKING_IDLE_TIMEOUT_S": "1.5",
    "TRACKING_WRITE_TIMEOUT_S": "1.5",
}
# before any deadline that is not among these
LATEST_S = 9.0
HEAD = b"POST /%b HTTP/1.1\r\nHost: t\r\n"
PATHS = {"gateway": b"api/events/ingest", "admin": b"api/partners", "query": b"api/events/partner-system/x"}
SERVICES = ("gateway", "admin", "query")


def assert_is_error(answer: RawResponse, status: int, code: str) -> None:
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"code", "message", "correlationId"}
    assert answer.headers["x-correlation-id"] == answer.json()["correlationId"]
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("service", SERVICES)
async def test_a_slow_client_is_ended_at_the_deadline_of_what_it_is_slow_with(stack: Stack, service: str) -> None:
    async with run_services(stack, service, settings=DEADLINES) as services:
        url, head = services.url(service), HEAD % PATHS[service]
        if service != "gateway":  # which would not wait for a body after a key that is wrong
            head += b"Authorization: Bearer " + services.admin_token.encode() + b"\r\n"
        sized, chunked = b"Content-Length: 9999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"

        async def check(start: bytes, drop: bytes, code: str, after_s: float) -> None:
            answers, seconds = await raw_http.drip(url, start, drop, every_s=0.05, timeout_s=LATEST_S + 2)
            assert 0.8 * after_s <= seconds < LATEST_S
            if code == "body_timeout" and service == "query":
                # it takes no body, so its answer was there before
                assert [answer.status for answer in answers] == [401]
            elif code:
                assert_is_error(answers[0], 408, code)
            assert len(answers) == bool(code)

        live = b"GET /health/live HTTP/1.1\r\nHost: t\r\n"
        await asyncio.gather(
            check(b"", b"", "", 1),
            check(b"\r\n", b"\r\n", "", 1),
            check(b"P", b"", "header_timeout", 1),
            check(head, b"X-A: b\r\n", "header_timeout", 1),
            check(head + b"X-A: ", b"b", "header_timeout", 1),
            check(b"GET /", b"a", "header_timeout", 1),
            check(head + sized, b"{", "body_timeout", 2),
            check(head + sized, b"", "body_timeout", 2),
            check(head + chunked, b"1\r\n \r\n", "body_timeout", 2),
            check(head + chunked, b"", "body_timeout", 2),
            check(head + chunked + b"1;", b"a", "body_timeout", 2),
            check(head + chunked + b"1\r\n{\r\n0\r\nX-A: ", b"a", "body_timeout", 2),
        )
        # an answer was given; then nothing, or half of the next request
        assert await answered_then_ended(url, live + b"\r\n", b"") == SILENCE
        assert_is_error(await answered_then_ended(url, live + b"\r\n", live), 408, "header_timeout")

        assert "unexpected failure" not in services.log(service)
        assert "Traceback" not in services.log(service)
        async with http_client(base_url=url) as client:
            assert (await client.get("/health/live")).status_code == 200
            assert 'tracking_connections_ended_total{reason="header_timeout"}' in (await client.get("/metrics")).text


async def answered_then_ended(url: str, first: bytes, second: bytes) -> RawResponse:
    async with asyncio.timeout(LATEST_S), raw_http.connected(url) as (reader, writer):
        writer.write(first)
        assert (await raw_http.read_answer(reader)).status == 200
        writer.write(second)
        return await raw_http.read_answer(reader)


async def test_who_closes_its_sending_half_is_not_waited_for(stack: Stack) -> None:
    sender = await register_system(stack)
    body = b'{"eventName": "page_view", "userId": "u"}'
    key = (b"X-Api-Key", sender.api_key.encode())
    async with run_services(stack, "gateway") as services:
        url = services.url("gateway")
        whole = raw_http.request("POST", b"/api/events/ingest", [key], body)

        for start in (b"", b"POST", HEAD % b"api/events/ingest", whole[:-5]):
            assert (await raw_http.exchange(url, start, ending="half_close", timeout_s=LATEST_S)).status in (0, 400)

        assert (await raw_http.exchange(url, whole)).status == 202


async def test_who_does_not_take_its_answers_is_cut_off(stack: Stack) -> None:
    async with run_services(stack, "query", settings=DEADLINES) as services:
        url = services.url("query")
        raw = await asyncio.to_thread(raw_http.connect_slowly, url, 4096)
        with raw:
            # a large page, so that the kernel's buffers do not hold all of it
            raw.sendall(b"GET /scalar/v1 HTTP/1.1\r\nHost: t\r\n\r\n" * 10)

            async with http_client(base_url=url, headers={"Connection": "close"}) as client:

                async def metrics() -> str:
                    try:
                        return (await client.get("/metrics")).text
                    except httpx.TransportError:
                        return ""  # on a busy machine this client, too, may take its answer too late

                ended = r'tracking_connections_ended_total\{reason="answer_not_taken"\} [1-9]'
                await until(metrics, lambda text: re.search(ended, text) is not None)


async def test_connections_past_the_limit_are_told_so_and_leave_the_others_alone(stack: Stack) -> None:
    async with run_services(stack, "query", settings={"TRACKING_CONNECTIONS": "3"}) as services:
        url, live = services.url("query"), raw_http.request("GET", b"/health/live")
        async with (
            raw_http.connected(url) as first,
            raw_http.connected(url) as second,
            raw_http.connected(url) as third,
        ):
            for reader, writer in (first, second, third):
                writer.write(live)
                assert (await raw_http.read_answer(reader)).status == 200

            rejected = await raw_http.exchange(url, live)

            assert (rejected.status, rejected.json()["code"]) == (503, "too_many_connections")
            assert int(rejected.headers["retry-after"]) >= 1
            first[1].write(live)
            assert (await raw_http.read_answer(first[0])).status == 200
        await until(lambda: raw_http.exchange(url, live), lambda answer: answer.status == 200)
