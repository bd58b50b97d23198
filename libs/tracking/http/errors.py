"""Errors as responses: one JSON object everywhere, and the headers that its status needs."""

from typing import Any

from starlette.exceptions import HTTPException

from tracking.domain.errors import Rejected, TooManyRequests, TrackingError, Unavailable

_STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}
_STATUS_MESSAGES = {
    404: "There is nothing at this path; /openapi/v1.json lists what there is.",
    405: "This path does not know that method; /openapi/v1.json lists what it knows.",
}


def build_error_payload(error: TrackingError, correlation_id: str) -> dict[str, Any]:
    """`{code, message, correlationId, details?}`."""
    payload: dict[str, Any] = {"code": error.code, "message": error.message, "correlationId": correlation_id}
    if error.details:
        payload["details"] = list(error.details)
    return payload


def build_error_headers(error: TrackingError) -> dict[str, str]:
    """What a status needs beside its body: Retry-After in whole seconds, the scheme a 401 asks for."""
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


def to_tracking_error(error: Exception) -> TrackingError | None:
    """Starlette's own 404 and 405 in our shape; None for what nobody expected."""
    if isinstance(error, TrackingError):
        return error
    if isinstance(error, HTTPException):
        code = _STATUS_CODES.get(error.status_code, "rejected")
        rejected = Rejected(code, _STATUS_MESSAGES.get(error.status_code, error.detail))
        rejected.status = error.status_code  # type: ignore[misc]
        return rejected
    return None
