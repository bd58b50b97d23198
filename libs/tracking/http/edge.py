"""The HTTP edge of admin and query: correlation ids, one shape of error, bodies and parameters read into models.

Pure ASGI, no BaseHTTPMiddleware: it would copy every body and lose context variables. The gateway's hot path has an
edge of its own (services/gateway/http/app.py) that answers with the same shapes.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracking.domain.errors import Malformed, Rejected, TooLarge, TooMany, TrackingError, Unavailable
from tracking.infra import correlation, telemetry

_log = logging.getLogger(__name__)
_HEADER = correlation.HEADER.lower().encode()
_STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}
_STATUS_MESSAGES = {
    404: "There is nothing at this path; /openapi/v1.json lists what there is.",
    405: "This path does not know that method; /openapi/v1.json lists what it knows.",
}
Model = TypeVar("Model", bound=BaseModel)


class JsonModel(BaseModel):
    """Base of bodies and parameters: camelCase outside, snake_case inside, nothing unknown let through."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", from_attributes=True)


class FieldFault(JsonModel):
    """One fault of the input."""

    field: str
    message: str


class ErrorBody(JsonModel):
    """The one shape of every error."""

    code: str
    message: str
    correlation_id: str
    details: list[FieldFault] | None = None


def json_response(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """`content` by orjson (a model by its camelCase names); UUIDs and datetimes become strings, times end in Z."""
    if isinstance(content, BaseModel):
        content = content.model_dump(by_alias=True, mode="json")
    body = orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, headers, media_type="application/json")


def _plain(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)  # asyncpg's own, a subclass that orjson does not take
    raise TypeError(f"{type(value)} has no JSON")


def error_payload(error: TrackingError, correlation_id: str) -> dict[str, Any]:
    """`{code, message, correlationId, details?}`."""
    payload: dict[str, Any] = {"code": error.code, "message": error.message, "correlationId": correlation_id}
    if error.details:
        payload["details"] = list(error.details)
    return payload


def error_headers(error: TrackingError) -> dict[str, str]:
    """What a status needs beside its body: Retry-After in whole seconds, the scheme a 401 asks for."""
    if isinstance(error, Unavailable):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, TooMany):
        return {
            "Retry-After": str(error.retry_after_s),
            "RateLimit-Limit": str(error.limit),
            "RateLimit-Remaining": str(error.remaining),
            "RateLimit-Reset": str(error.retry_after_s),
        }
    if error.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}


async def read_body(request: Request, model: type[Model], limit_bytes: int, *, if_empty: bytes = b"") -> Model:
    """The JSON body as `model`. Raises Malformed with a detail for each field, TooLarge past `limit_bytes`."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge("body_too_large", f"The body is larger than {limit_bytes} bytes.")
        chunks.append(chunk)
    try:
        decoded = orjson.loads(b"".join(chunks) or if_empty)
    except orjson.JSONDecodeError as error:
        raise Malformed("malformed_json", f"The body is not JSON: {error}") from error
    return _validated(model, decoded, "invalid_body", "The body is not what this route takes.")


def read_query(request: Request, model: type[Model]) -> Model:
    """The query parameters as `model`. Raises Malformed; a parameter given twice is one of the faults."""
    names = [name for name, _ in request.query_params.multi_items()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        faults = [{"field": name, "message": "given more than once"} for name in twice]
        raise Malformed("invalid_parameters", "A query parameter is given more than once.", faults)
    return _validated(
        model,
        dict(request.query_params),
        "invalid_parameters",
        "The query parameters are not what this route takes.",
    )


def _validated(model: type[Model], value: Any, code: str, message: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Malformed(code, message, _faults(error.errors(include_url=False, include_input=False))) from error


def _faults(errors: Sequence[Any]) -> list[dict[str, str]]:
    return [
        {
            "field": _place(error["loc"]) or "(body)",
            "message": error["msg"].removeprefix("Value error, "),
        }
        for error in errors
    ]


def _place(parts: Sequence[str | int]) -> str:
    """`settings.privacyRules[0].path`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


class Edge:
    """ASGI middleware: correlation id in and out, the request's metrics, every error as JSON.

    Of a Starlette application only the routes are used: its own error middleware would answer before this one, as text.
    """

    def __init__(self, app: ASGIApp, service: str) -> None:
        if isinstance(app, Starlette):
            app = app.router
        if isinstance(app, Router):
            app.redirect_slashes = False
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _HEADER), None)
        correlation_id = correlation.accept(given.decode("latin-1") if given is not None else None)
        correlation.enter(correlation_id)
        # with an "app" the router raises its 404 and 405, without one it answers them itself
        scope.setdefault("app", self)
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, correlation_id.encode())]
            await send(message)

        try:
            with telemetry.request_span(self._service, scope):
                await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = 499
        except Exception as error:
            if status:
                raise
            await _answer(error, correlation_id)(scope, receive, send_with_id)
        finally:
            telemetry.observe_request(self._service, scope, status, time.perf_counter() - started)


def _answer(error: Exception, correlation_id: str) -> Response:
    known = as_tracking_error(error)
    if known is None:
        _log.exception("unexpected failure of a request", exc_info=error)
        known = TrackingError("internal_error", "Something failed here; the log has it under this correlation id.")
    elif isinstance(known, Unavailable):
        _log.warning("unavailable: %s", known.message)
    headers = error_headers(known)
    if isinstance(error, HTTPException):
        headers |= error.headers or {}  # Allow beside 405
    return json_response(error_payload(known, correlation_id), known.status, headers)


def as_tracking_error(error: Exception) -> TrackingError | None:
    """Starlette's own 404 and 405 in our shape; None for what nobody expected."""
    if isinstance(error, TrackingError):
        return error
    if isinstance(error, HTTPException):
        code = _STATUS_CODES.get(error.status_code, "rejected")
        rejected = Rejected(code, _STATUS_MESSAGES.get(error.status_code, error.detail))
        rejected.status = error.status_code  # type: ignore[misc]
        return rejected
    return None
