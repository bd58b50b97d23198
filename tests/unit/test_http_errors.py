"""An error has the same status, headers and body, whether it is answered in bytes or by Starlette."""

import json
import logging

import pytest
from starlette.exceptions import HTTPException

from tracking.domain.errors import Malformed, TooManyRequests, TrackingError, Unauthenticated, Unavailable
from tracking.http.errors import HttpError, encode_closing_response, render_error, to_tracking_error

ERRORS = [
    Malformed("invalid_body", "No.", [{"field": "a", "message": "missing"}]),
    Unauthenticated("unknown_key", "Nobody knows this key."),
    TooManyRequests("rate_limited", "Too fast.", 3, 100, 0),
    Unavailable("overloaded", "Try again.", 2),
    HttpError(431, "headers_too_large", "Too many headers."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_bytes_and_starlette_answer_alike(error: TrackingError) -> None:
    response = render_error(error, "c-1")

    head, _, body = encode_closing_response(error, "c-1").partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert int(status.split()[1]) == response.status_code == error.status
    assert body == response.body
    assert json.loads(body)["correlationId"] == headers.pop("x-correlation-id") == "c-1"
    assert headers.pop("connection") == "close"
    assert headers == dict(response.headers)


def test_an_unexpected_error_is_logged_and_its_text_is_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "tracking.http.errors"):
        answered = to_tracking_error(ValueError("sk_secret"))

    assert (answered.status, answered.code) == (500, "internal_error")
    assert "sk_secret" not in answered.message
    assert "sk_secret" in caplog.text


def test_an_expected_error_is_answered_as_it_is_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answered = [to_tracking_error(error) for error in ERRORS]
        of_starlette = to_tracking_error(HTTPException(404))

    assert answered == ERRORS
    assert (of_starlette.status, of_starlette.code) == (404, "not_found")
    assert not caplog.records
