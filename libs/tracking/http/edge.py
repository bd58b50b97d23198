"""The HTTP edge of admin and query: correlation ids, one shape of error, bodies and parameters read into models.

Pure ASGI, no BaseHTTPMiddleware: it would copy every body and lose context variables. The gateway's hot path has an
edge of its own (services/gateway/http/app.py) that answers with the same shapes.
"""

import time

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracking.http import request_metrics
from tracking.http.errors import render_error
from tracking.infra import correlation, telemetry

_HEADER = correlation.CORRELATION_ID_HEADER.lower().encode()


class EdgeMiddleware:
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
        correlation_id = correlation.accept_or_generate(given.decode("latin-1") if given is not None else None)
        correlation.set_current(correlation_id)
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
            await render_error(error, correlation_id)(scope, receive, send_with_id)
        finally:
            request_metrics.observe_request(self._service, scope, status, time.perf_counter() - started)
