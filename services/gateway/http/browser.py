"""The routes of pages beside those of SDKs: the beacon, the pixel and the script.

Their names are settings, because block lists know the usual ones.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway import SERVICE
from services.gateway.events.pixel import parse_pixel_query
from services.gateway.events.segment import to_envelope
from services.gateway.http.clock import get_receive_time
from services.gateway.http.cors import FOR_ANY_PAGE, Headers, allow_origin, answer_preflight
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
from tracking.domain.tracking_event import EVENT_TYPES
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
    """The last parts of the paths."""

    beacon: str = "beacon"
    pixel: str = "pixel"
    script: str = "tracker.js"


DEFAULT_NAMES = BrowserRouteNames()


class PixelRequest(GatewayRequest):
    """An image is asked for without Origin; which page it is on stands in Referer, if anywhere."""

    __slots__ = ("referrer",)

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.referrer = find_header(scope, b"referer")
        super().__init__(scope, receive)
        self.is_from_browser = True

    @property
    def origin(self) -> str | None:
        """The origin of the page, as far as the browser says it."""
        said = super().origin
        if said is not None or self.referrer is None:
            return said
        scheme, colon, rest = self.referrer.partition("://")
        return scheme + colon + rest.partition("/")[0]


class BrowserRoutes:
    """Handles the three; `sdk` says under which prefix, and takes what a beacon brings."""

    def __init__(self, ingestion: Ingestion, sdk: SdkRoutes, names: BrowserRouteNames) -> None:
        self._ingestion = ingestion
        self._sdk = sdk
        self.beacon_path = f"{sdk.prefix}/{names.beacon}"
        # where RudderStack's browser SDK and its pixels send
        self.beacon_paths = (self.beacon_path, f"/beacon{sdk.prefix}/batch")
        self.pixel_path = f"{sdk.prefix}/{names.pixel}"
        self.typed_pixel_path = f"/pixel{sdk.prefix}/{{type}}"
        self.script_path = f"{sdk.prefix}/{names.script}"
        self._script = TrackerScript(names.beacon)
        self.script = self._script.answer

    def get_handlers(self) -> Mapping[tuple[str, str], ASGIApp]:
        """Handlers of GET, HEAD and OPTIONS by method and path."""
        pixels: dict[str, ASGIApp] = {self.pixel_path: self.pixel}
        for event_type in EVENT_TYPES:
            pixels[self.typed_pixel_path.format(type=event_type)] = partial(self.pixel, event_type=event_type)
        return {
            **{("GET", path): pixel for path, pixel in pixels.items()},
            **{("HEAD", path): self.pixel_head for path in pixels},
            ("GET", self.script_path): self.script,
            ("HEAD", self.script_path): self.script,
            **{("OPTIONS", path): self.preflight for path in (*pixels, self.script_path)},
        }

    async def beacon(self, request: GatewayRequest) -> bytes:
        """Store what a page sends while it closes.

        As `batch`; the key is in the query or the body, since `navigator.sendBeacon` cannot set headers, and the body
        is JSON whatever its content type says.
        """
        request.is_from_browser = True
        return await self._sdk.batch(request)

    async def pixel(self, scope: Scope, receive: Receive, send: Send, event_type: str | None = None) -> None:
        """Store one event that is written as query parameters; `event_type` is that of the path, if it has one.

        The answer is a transparent image of 43 bytes, with errors too: browsers show an image whatever its status, so
        the status can say what became of the event, and X-Error-Code why.
        """
        started = time.perf_counter()
        request = PixelRequest(scope, receive)
        correlation.set_current(request.correlation_id)
        status, extra = 200, {}
        try:
            with telemetry.request_span(SERVICE, scope):
                await self._store(request, scope["query_string"], event_type)
        except Exception as error:
            known = to_tracking_error(error)
            status, extra = known.status, {"X-Error-Code": known.code, **build_error_headers(known)}
            await self._ingestion.record_error(request, known)
        headers = [*_pixel_headers(request), *encode_headers(extra)]
        await send_response(send, status, headers, GIF)
        answered = REQUEST_METRICS.get_route_metrics(SERVICE, "GET", scope["path"], status, is_ingestion=status == 200)
        answered.observe(time.perf_counter() - started)

    async def pixel_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HEAD with the headers of the pixel; stores nothing."""
        await send_response(send, 200, _pixel_headers(PixelRequest(scope, receive)), b"", len(GIF))

    async def preflight(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight: a page may ask for the pixel and the script with headers of its own."""
        await send_response(send, 204, answer_preflight(scope["headers"], b"GET, HEAD, OPTIONS"))

    async def _store(self, request: PixelRequest, query: bytes, event_type: str | None) -> None:
        received_at = get_receive_time()
        message = parse_pixel_query(query, request.referrer, event_type)
        request.raw_body = orjson.dumps(message)
        sender = await self._ingestion.authenticate(request, None, received_at)
        decided = await self._ingestion.decide([to_envelope(message, None)], sender)
        event = require_event(decided[0])
        render_event(event, await self._ingestion.submit(decided, sender))


def _pixel_headers(request: PixelRequest) -> Headers:
    return [
        (b"content-type", b"image/gif"),
        (b"cache-control", b"no-store"),
        (b"x-correlation-id", request.correlation_id.encode()),
        *allow_origin(dict(request.all_headers).get(b"origin", b"").decode("latin-1")),
        *FOR_ANY_PAGE,
    ]
