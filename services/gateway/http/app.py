"""The ASGI application of the gateway.

The routes that carry traffic are raw ASGI, because a Starlette route costs much of the throughput (docs/benchmarks.md).
Starlette serves health, metrics and documentation.
"""

import time
from collections.abc import Awaitable, Callable, Collection

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway import SERVICE
from services.gateway.events.decode import decode_batch, decode_event
from services.gateway.events.members import find_key
from services.gateway.http.browser import DEFAULT_NAMES, BrowserRouteNames, BrowserRoutes
from services.gateway.http.clock import get_receive_time
from services.gateway.http.cors import allow_origin, answer_preflight
from services.gateway.http.ingestion import Ingestion
from services.gateway.http.openapi import build_openapi
from services.gateway.http.paths import BATCH_PATH, INGEST_PATH, normalize_path
from services.gateway.http.request import ClientDisconnected, GatewayRequest
from services.gateway.http.responses import (
    record_request_metrics,
    render_batch,
    render_event,
    require_event,
)
from services.gateway.http.sdk import SdkRoutes
from services.gateway.http.sdk_settings import SdkSettings
from tracking.http.edge import EdgeMiddleware
from tracking.http.errors import build_error_headers, encode_error_body, to_tracking_error
from tracking.http.health import Health
from tracking.infra import correlation, telemetry

_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_S = 3.0


class EventRoutes:
    """Handles `/api/events/ingest` and `/api/events/batch`; the routes of the SDKs are in sdk.py."""

    def __init__(self, ingestion: Ingestion) -> None:
        self._ingestion = ingestion

    async def ingest(self, request: GatewayRequest) -> bytes:
        """Store one event.

        202 says that the event is on disk. An event that does not match its schema is stored too, with isValid=false.
        """
        body = await self._ingestion.read_body(request)
        received_at = get_receive_time()
        envelope = decode_event(body)
        sender = await self._ingestion.authenticate(request, find_key(envelope), received_at)
        decided = await self._ingestion.decide([envelope], sender)
        event = require_event(decided[0])
        return render_event(event, await self._ingestion.submit(decided, sender), is_dry_run=sender.is_dry_run)

    async def batch(self, request: GatewayRequest) -> bytes:
        """Store many events.

        202 says that every event not listed as refused is on disk. One bad event never affects the others.
        """
        body = await self._ingestion.read_body(request)
        received_at = get_receive_time()
        batch = decode_batch(body, self._ingestion.max_batch_events)
        sender = await self._ingestion.authenticate(
            request, batch.api_key, received_at, batch.sent_at, batch.is_historical
        )
        decided = await self._ingestion.decide(batch.envelopes, sender)
        result = await self._ingestion.submit(decided, sender)
        self._ingestion.record_rejected(request, batch.envelopes, decided, result)
        return render_batch(decided, result, received_at, is_dry_run=sender.is_dry_run)


Handler = Callable[[GatewayRequest], Awaitable[bytes]]


class GatewayApp:
    """The ASGI application: the routes of events are found in a dictionary, all other requests go to Starlette."""

    def __init__(
        self, gateway: EventRoutes, sdk: SdkRoutes, browser: BrowserRoutes, ingestion: Ingestion, rest: ASGIApp
    ) -> None:
        self._ingestion = ingestion
        self._handlers: dict[str, tuple[Handler, int]] = {
            INGEST_PATH: (gateway.ingest, 202),
            BATCH_PATH: (gateway.batch, 202),
        }
        for path, handler in sdk.handlers().items():
            # The status must be 200: after 202 the Python SDK of RudderStack sends the whole batch again.
            self._handlers[path] = (handler, 200)
        for path in browser.beacon_paths:
            self._handlers[path] = (browser.beacon, 200)
        self._pages = browser.get_handlers()
        self._rest = rest

    @property
    def paths(self) -> Collection[str]:
        """The paths of the routes that take events."""
        return self._handlers.keys()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._handlers.get(scope["path"]) if scope["type"] == "http" else None
        if found is None and scope["type"] == "http":
            scope = {**scope, "path": normalize_path(scope["path"])}
            found = self._handlers.get(scope["path"])
        if found is None or scope["method"] not in ("POST", "OPTIONS"):
            page = self._pages.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
            await (page or self._rest)(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            preflight = answer_preflight(scope["headers"], b"POST, OPTIONS")
            await send({"type": "http.response.start", "status": 204, "headers": preflight})
            await send({"type": "http.response.body"})
            return
        handler, status = found
        started = time.perf_counter()
        request = GatewayRequest(scope, receive)
        correlation.set_current(request.correlation_id)
        extra: dict[str, str] = {}
        try:
            if telemetry.is_tracing_enabled():
                with telemetry.request_span(SERVICE, scope):
                    body = await handler(request)
            else:
                body = await handler(request)
        except ClientDisconnected:
            record_request_metrics(scope["path"], 499, started)
            return
        except Exception as error:
            answered = to_tracking_error(error)
            status, extra = answered.status, build_error_headers(answered)
            body = encode_error_body(answered, request.correlation_id)
            await self._ingestion.record_error(request, answered)
        finally:
            request.release_budget()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-correlation-id", request.correlation_id.encode()),
        ]
        if request.origin is not None:
            headers.extend(allow_origin(request.origin))
        headers.extend((name.lower().encode(), value.encode()) for name, value in extra.items())
        if not request.is_body_read:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if request.is_body_read:
            await send({"type": "http.response.body", "body": body})
        else:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await request.discard_rest(_DRAIN_BYTES, _DRAIN_S)
            await send({"type": "http.response.body", "body": b""})
        record_request_metrics(scope["path"], status, started)


def create_app(
    ingestion: Ingestion, sdk: SdkRoutes, health: Health, names: BrowserRouteNames = DEFAULT_NAMES
) -> GatewayApp:
    """Build the application, with its routes for health, metrics and documentation."""
    gateway, browser = EventRoutes(ingestion), BrowserRoutes(ingestion, sdk, names)
    settings = SdkSettings(sdk.prefix)
    docs, documented = build_openapi(gateway, sdk, browser, settings)
    # These paths are registered once more for other methods, which get 405.
    rest = Starlette(
        routes=[
            *health.make_routes(),
            *docs.make_routes(documented),
            *documented.routes,
            *(Route(path, settings.preflight, methods=["OPTIONS"]) for path in settings.paths),
        ]
    )
    return GatewayApp(gateway, sdk, browser, ingestion, EdgeMiddleware(rest, SERVICE))
