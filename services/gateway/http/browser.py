"""The routes for web pages beside those of the SDKs: the beacon, the pixel and the script.

The names of these routes are settings, because block lists contain the usual names.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway import SERVICE
from services.gateway.events.pixel import parse_pixel_query
from services.gateway.events.segment import to_envelope
from services.gateway.http.clock import get_receive_time
from services.gateway.http.cors import FOR_ANY_PAGE, Headers
from services.gateway.http.ingestion import Ingestion
from services.gateway.http.request import GatewayRequest, find_header
from services.gateway.http.responses import (
    encode_headers,
    render_event,
    require_event,
    send_response,
)
from services.gateway.http.script import TrackerScript
from services.gateway.http.sdk import SdkRoutes
from tracking.http.errors import build_error_headers, to_tracking_error
from tracking.http.request_metrics import REQUEST_METRICS
from tracking.infra import correlation, telemetry

GIF = bytes.fromhex(
    "474946383961 0100 0100 80 00 00"  # GIF89a, 1 x 1, two colours
    "000000 ffffff"
    "21 f9 04 01 0000 00 00"  # the first of them is transparent
    "2c 0000 0000 0100 0100 00"
    "02 02 4401 00 3b"
)


@dataclass(frozen=True, slots=True)
class BrowserRouteNames:
    """The last parts of the paths of these routes."""

    beacon: str = "beacon"
    pixel: str = "pixel"
    script: str = "tracker.js"


DEFAULT_NAMES = BrowserRouteNames()


class PixelRequest(GatewayRequest):
    """A request for the pixel. Browsers request images without Origin; the page is named in Referer, if at all."""

    __slots__ = ("referrer",)

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.referrer = find_header(scope, b"referer")
        super().__init__(scope, receive)
        self.is_from_browser = True

    @property
    def origin(self) -> str | None:
        """The origin of the page, if the browser names it."""
        said = super().origin
        if said is not None or self.referrer is None:
            return said
        scheme, colon, rest = self.referrer.partition("://")
        return scheme + colon + rest.partition("/")[0]


class BrowserRoutes:
    """Handles the beacon, the pixel and the script, below the prefix of `sdk`, which stores the beacon's messages."""

    def __init__(self, ingestion: Ingestion, sdk: SdkRoutes, names: BrowserRouteNames) -> None:
        self._ingestion = ingestion
        self._sdk = sdk
        self.beacon_path = f"{sdk.prefix}/{names.beacon}"
        self.pixel_path = f"{sdk.prefix}/{names.pixel}"
        self.script_path = f"{sdk.prefix}/{names.script}"
        self._script = TrackerScript(names.beacon)
        self.script = self._script.answer

    def get_handlers(self) -> Mapping[tuple[str, str], ASGIApp]:
        """Return the handlers of GET and HEAD by method and path."""
        return {
            ("GET", self.pixel_path): self.pixel,
            ("HEAD", self.pixel_path): self.pixel_head,
            ("GET", self.script_path): self.script,
            ("HEAD", self.script_path): self.script,
        }

    async def beacon(self, request: GatewayRequest) -> bytes:
        """Store the messages that a page sends while it closes.

        The body is the same as for `batch`. The key is in the query or the body, since `navigator.sendBeacon` cannot
        set headers, and the body is JSON whatever its content type says.
        """
        request.is_from_browser = True
        return await self._sdk.batch(request)

    async def pixel(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store one event that is written as query parameters.

        The response is a transparent image of 43 bytes, for errors too: browsers show an image whatever its status, so
        the status can say whether the event was stored, and X-Error-Code why it was not.
        """
        started = time.perf_counter()
        request = PixelRequest(scope, receive)
        correlation.set_current(request.correlation_id)
        status, extra = 200, {}
        try:
            with telemetry.request_span(SERVICE, scope):
                await self._store(request, scope["query_string"])
        except Exception as error:
            known = to_tracking_error(error)
            status, extra = known.status, {"X-Error-Code": known.code, **build_error_headers(known)}
            await self._ingestion.record_error(request, known)
        headers = [*_pixel_headers(request.correlation_id), *encode_headers(extra)]
        await send_response(send, status, headers, GIF)
        answered = REQUEST_METRICS.get_route_metrics(SERVICE, "GET", scope["path"], status, is_ingestion=status == 200)
        answered.observe(time.perf_counter() - started)

    async def pixel_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that only asks whether there is a pixel; nothing is stored."""
        correlation_id = PixelRequest(scope, receive).correlation_id
        await send_response(send, 200, _pixel_headers(correlation_id), b"", len(GIF))

    async def _store(self, request: PixelRequest, query: bytes) -> None:
        received_at = get_receive_time()
        message = parse_pixel_query(query, request.referrer)
        request.raw_body = orjson.dumps(message)
        sender = await self._ingestion.authenticate(request, None, received_at)
        decided = await self._ingestion.decide([to_envelope(message, None)], sender)
        event = require_event(decided[0])
        render_event(event, await self._ingestion.submit(decided, sender))


def _pixel_headers(correlation_id: str) -> Headers:
    return [
        (b"content-type", b"image/gif"),
        (b"cache-control", b"no-store"),
        (b"x-correlation-id", correlation_id.encode()),
        *FOR_ANY_PAGE,
    ]
