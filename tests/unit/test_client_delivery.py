"""The client's reaction to a response: done, send again, send in halves, or give up. No IO."""

import gzip
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest

from tracking_client import Failure, Options, Stored
from tracking_client.delivery import Delivery, GatewayResponse, Pause, Post, make_unsent_failures
from tracking_client.tracking_methods import EncodedEvent

SENT_AT = datetime(2026, 11, 20, 12, 0, 0, 0, UTC)
OPTIONS = Options(first_pause_s=1.0, longest_pause_s=10.0, retry_for_s=100.0)


def make_encoded_events(count: int) -> list[EncodedEvent]:
    return [EncodedEvent(f"e{number}", json.dumps({"eventId": f"e{number}"}).encode()) for number in range(count)]


def delivery(count: int) -> Delivery:
    return Delivery(make_encoded_events(count), OPTIONS, Random(1))  # noqa: S311


def accepted(count: int, **changes: Any) -> GatewayResponse:
    result = {"status": "accepted", "eventId": "id", "isValid": True, "validationErrors": None} | changes
    return GatewayResponse(202, {"results": [result] * count})


def carried_out(of: Delivery, gateway: Callable[[Sequence[str]], GatewayResponse]) -> tuple[list[list[str]], list[Any]]:
    """Carry out all steps and return the ids of every post and the outcomes; pauses take no time."""
    posts: list[list[str]] = []
    outcomes: list[Any] = []
    while (step := of.step(0.0)) is not None:
        if isinstance(step, Post):
            ids = [event.event_id for event in step.events]
            posts.append(ids)
            outcomes += of.handle_response(gateway(ids), 0.0)
    return posts, outcomes


def test_every_event_of_an_acknowledged_batch_is_told_with_its_own_result() -> None:
    errors = [{"code": "type", "path": "/n", "schemaPath": "", "message": "no number"}]
    results = [
        {"status": "accepted", "eventId": "id0", "isValid": True, "validationErrors": None},
        {"status": "duplicate", "eventId": "id1", "isValid": False, "validationErrors": errors},
        {"status": "refused", "code": "invalid_event", "message": "Not an event: eventName: required."},
    ]

    _, outcomes = carried_out(delivery(3), lambda _: GatewayResponse(202, {"results": results}))

    assert outcomes == [
        Stored("e0", "id0", is_valid=True, is_duplicate=False),
        Stored("e1", "id1", is_valid=False, is_duplicate=True, validation_errors=tuple(errors)),
        Failure("invalid_event", "Not an event: eventName: required.", {"eventId": "e2"}),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        GatewayResponse(0, error_text="ConnectError"),
        *(GatewayResponse(status) for status in (408, 429, 500, 502, 503, 504, 599)),
        GatewayResponse(200, {"results": [{"eventId": "id"}]}),
        GatewayResponse(204),
        GatewayResponse(202),
        GatewayResponse(202, "<html>"),
        GatewayResponse(202, {"results": []}),
        GatewayResponse(202, {"results": [{"status": "accepted"}]}),
        GatewayResponse(202, {"results": [{"status": "accepted", "eventId": "id", "validationErrors": 5}]}),
    ],
)
def test_what_acknowledges_nothing_is_sent_again_as_it_was(answer: GatewayResponse) -> None:
    sending = delivery(1)
    first = sending.step(0.0)

    assert sending.handle_response(answer, 0.0) == []

    assert isinstance(sending.step(0.0), Pause)
    assert sending.step(0.0) == first


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 415, 422])
def test_a_final_answer_ends_every_event_with_its_reason(status: int) -> None:
    posts, outcomes = carried_out(
        delivery(2), lambda _: GatewayResponse(status, {"code": "why", "message": "Because."})
    )

    assert len(posts) == 1
    assert outcomes == [Failure("why", "Because.", {"eventId": name}) for name in ("e0", "e1")]


def test_the_answer_of_something_in_between_has_a_reason_too() -> None:
    _, [failure] = carried_out(delivery(1), lambda _: GatewayResponse(403, None, None, "403 Forbidden by proxy"))

    assert (failure.code, failure.message) == ("http_403", "403 Forbidden by proxy")


def test_a_batch_too_large_is_halved_until_it_fits_and_stays_in_order() -> None:
    def gateway(ids: Sequence[str]) -> GatewayResponse:
        return accepted(len(ids)) if len(ids) <= 2 else GatewayResponse(413, {"code": "too_many_events", "message": ""})

    posts, outcomes = carried_out(delivery(7), gateway)

    assert [ids for ids in posts if len(ids) <= 2] == [["e0"], ["e1", "e2"], ["e3", "e4"], ["e5", "e6"]]
    assert [outcome.event_id for outcome in outcomes] == [f"e{number}" for number in range(7)]


@pytest.mark.parametrize(
    "answer", [GatewayResponse(400, {"code": "malformed_json", "message": "no"}), GatewayResponse(413)]
)
def test_one_event_that_spoils_its_batch_is_lost_alone(answer: GatewayResponse) -> None:
    _, outcomes = carried_out(delivery(500), lambda ids: answer if "e123" in ids else accepted(len(ids)))

    assert [outcome.event["eventId"] for outcome in outcomes if isinstance(outcome, Failure)] == ["e123"]
    assert len([outcome for outcome in outcomes if isinstance(outcome, Stored)]) == 499


def test_a_400_that_is_not_about_the_body_is_not_asked_again_in_halves() -> None:
    posts, outcomes = carried_out(
        delivery(500), lambda _: GatewayResponse(400, None, None, "400 plain HTTP to an HTTPS port")
    )

    assert len(posts) == 1
    assert len(outcomes) == 500


def pauses(answers: Sequence[GatewayResponse]) -> list[float]:
    sending, found = delivery(1), []
    for answer in answers:
        assert isinstance(sending.step(0.0), Post)
        sending.handle_response(answer, 0.0)
        pause = sending.step(0.0)
        assert isinstance(pause, Pause)
        found.append(pause.seconds)
    return found


def test_pauses_double_up_to_a_limit_and_vary() -> None:
    found = pauses([GatewayResponse(503)] * 8)

    for seconds, most in zip(found, [1, 2, 4, 8, 10, 10, 10, 10], strict=True):
        assert most / 2 <= seconds <= most
    assert len(set(found)) == 8


def test_a_pause_is_never_shorter_than_the_gateway_asks_for() -> None:
    [short, long, endless] = pauses(
        [GatewayResponse(429, None, 7.0), GatewayResponse(503, None, 0.0), GatewayResponse(503, None, 1e9)]
    )

    assert 7 <= short <= 8
    assert 1 <= long <= 2
    assert endless <= 301


def test_a_batch_that_nobody_answers_is_given_up_in_the_end() -> None:
    sending = delivery(2)
    sending.step(0.0)
    assert sending.handle_response(GatewayResponse(503), 99.0) == []
    sending.step(99.0)
    sending.step(99.0)

    outcomes = sending.handle_response(
        GatewayResponse(503, {"code": "database_unavailable", "message": "Try again."}), 100.0
    )

    assert [(outcome.code, outcome.event) for outcome in outcomes if isinstance(outcome, Failure)] == [
        ("not_acknowledged", {"eventId": "e0"}),
        ("not_acknowledged", {"eventId": "e1"}),
    ]
    assert sending.step(100.0) is None


def test_each_half_has_its_own_time_and_its_own_pauses() -> None:
    sending = delivery(2)
    for _ in range(3):
        sending.step(0.0)
        sending.handle_response(GatewayResponse(503), 0.0)
        sending.step(0.0)
    sending.step(50.0)
    sending.handle_response(GatewayResponse(413), 50.0)

    sending.step(50.0)
    assert sending.handle_response(GatewayResponse(503), 149.0) == []

    pause = sending.step(149.0)
    assert isinstance(pause, Pause)
    assert pause.seconds <= 1


def test_what_is_withdrawn_ends_once_whatever_is_answered_later() -> None:
    sending = delivery(3)
    sending.step(0.0)

    left = sending.withdraw()

    assert [failure.code for failure in make_unsent_failures(left)] == ["unsent"] * 3
    assert sending.handle_response(accepted(3), 0.0) == []
    assert sending.step(0.0) is None


def test_each_attempt_says_when_it_was_sent_and_a_large_body_is_compressed() -> None:
    post = Post([EncodedEvent("e", json.dumps({"eventId": "e", "text": str(list(range(900)))}).encode())])

    plain, none = post.encode_body(SENT_AT, 1_000_000)
    packed, encoding = post.encode_body(SENT_AT, 100)

    assert (none, encoding) == (None, "gzip")
    assert gzip.decompress(packed) == plain
    assert len(packed) < len(plain)
    assert json.loads(plain)["sentAt"] == "2026-11-20T12:00:00Z"
    assert json.loads(plain)["events"][0]["eventId"] == "e"


def test_what_would_inflate_like_an_attack_goes_as_it_is() -> None:
    post = Post([EncodedEvent("e", b'"' + b"x" * 500_000 + b'"')])

    body, encoding = post.encode_body(SENT_AT, 1024)

    assert encoding is None
    assert len(body) > 500_000
