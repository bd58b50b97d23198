"""Errors as responses: every error response is built here, as bytes for the hot path, by Starlette for the rest.

`to_tracking_error` decides which error is answered. The body is one JSON object everywhere,
`{code, message, correlationId, details?}`, and the status decides which headers stand beside it.
"""

import logging
from http import HTTPStatus

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tracking.domain.errors import Rejected, TooManyRequests, TrackingError, Unavailable

_log = logging.getLogger(__name__)
_MEDIA_TYPE = "application/json"
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}
_STATUS_MESSAGES = {
    404: "There is nothing at this path; /openapi/v1.json lists what there is.",
    405: "This path does not know that method; /openapi/v1.json lists what it knows.",
}


class HttpError(Rejected):
    """A request that is rejected by HTTP itself (no such path or method, late or malformed), with its own status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code, message)
        self.status = status  # type: ignore[misc]


def to_tracking_error(error: BaseException) -> TrackingError:
    """Return the error that is answered for any exception; an unexpected one is logged and answered with 500.

    The response to an unexpected error says nothing about it, because its text may hold a secret.
    """
    if isinstance(error, Unavailable | Rejected):
        return error
    if isinstance(error, HTTPException):
        code = _STATUS_CODES.get(error.status_code, "rejected")
        return HttpError(error.status_code, code, _STATUS_MESSAGES.get(error.status_code, error.detail))
    _log.error("unexpected failure of a request", exc_info=error)
    return TrackingError("internal_error", "Something failed here; the log has it under this correlation id.")


def build_error_headers(error: TrackingError) -> dict[str, str]:
    """Return the headers that a status needs: Retry-After in whole seconds, the scheme that a 401 asks for."""
    if isinstance(error, Unavailable):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, TooManyRequests):
        return {
            "Retry-After": str(error.retry_after_s),
            "RateLimit-Limit": str(error.limit),
            "RateLimit-Remaining": str(error.remaining),
            "RateLimit-Reset": str(error.retry_after_s),
        }
    if error.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}


def encode_error_body(error: TrackingError, correlation_id: str) -> bytes:
    """Return the JSON body."""
    payload = {"code": error.code, "message": error.message, "correlationId": correlation_id}
    return orjson.dumps({**payload, "details": error.details} if error.details else payload)


def encode_error_headers(error: TrackingError, correlation_id: str) -> bytes:
    """Return all headers but the content length as lines, each with its CRLF, for `DeferredResponse.send`."""
    headers = {"Content-Type": _MEDIA_TYPE, "X-Correlation-ID": correlation_id, **build_error_headers(error)}
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items()).encode()


def encode_closing_response(error: TrackingError, correlation_id: str) -> bytes:
    """Return a whole HTTP/1.1 response, for a connection on which no further request is read."""
    body = encode_error_body(error, correlation_id)
    return b"HTTP/1.1 %d %b\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n%b" % (
        error.status,
        HTTPStatus(error.status).phrase.encode(),
        len(body),
        encode_error_headers(error, correlation_id),
        body,
    )


def render_error(error: Exception, correlation_id: str) -> Response:
    """Return the response to an exception that reached the edge of an ASGI application."""
    answered = to_tracking_error(error)
    if isinstance(answered, Unavailable):
        _log.warning("unavailable: %s", answered.message)
    headers = build_error_headers(answered)
    if isinstance(error, HTTPException):
        headers |= error.headers or {}  # Allow beside 405
    body = encode_error_body(answered, correlation_id)
    return Response(body, answered.status, headers, media_type=_MEDIA_TYPE)
