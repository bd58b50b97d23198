"""What pages use beside the routes of SDKs: the beacon, the pixel and the script.

Their names are settings, as block lists know the usual ones.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.events import segment
from services.gateway.events.pixel import message_of
from services.gateway.http import clock
from services.gateway.http.cors import CORS, Headers
from services.gateway.http.ingestion import Ingestion
from services.gateway.http.request import GatewayRequest
from services.gateway.http.responses import SERVICE, event_of, known_error, single_answer
from services.gateway.http.script import TrackerScript
from services.gateway.http.sdk import SdkRoutes
from tracking.http.errors import error_headers
from tracking.http.request_metrics import requests
from tracking.infra import correlation, telemetry

GIF = bytes.fromhex(
    "474946383961 0100 0100 80 00 00"  # GIF89a, 1 x 1, two colours
    "000000 ffffff"
    "21 f9 04 01 0000 00 00"  # the first of them is transparent
    "2c 0000 0000 0100 0100 00"
    "02 02 4401 00 3b"
)
# a page that wants its parts isolated (Cross-Origin-Embedder-Policy) may still use ours
_FOR_ANY_PAGE: Headers = [
    *CORS,
    (b"cross-origin-resource-policy", b"cross-origin"),
    (b"x-content-type-options", b"nosniff"),
]


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
        self.referrer = _header(scope, b"referer")
        super().__init__(scope, receive)
        self.is_of_browser = True

    @property
    def origin(self) -> str | None:
        """As far as the browser says it."""
        said = super().origin
        if said is not None or self.referrer is None:
            return said
        scheme, colon, rest = self.referrer.partition("://")
        return scheme + colon + rest.partition("/")[0]


class BrowserRoutes:
    """Handles the three; `sdk` says under which prefix, and takes what a beacon brings."""

    def __init__(self, intake: Ingestion, sdk: SdkRoutes, names: BrowserRouteNames) -> None:
        self._intake = intake
        self._sdk = sdk
        self.beacon_path = f"{sdk.prefix}/{names.beacon}"
        self.pixel_path = f"{sdk.prefix}/{names.pixel}"
        self.script_path = f"{sdk.prefix}/{names.script}"
        self._script = TrackerScript(names.beacon)
        self.script = self._script.answer

    def pages(self) -> Mapping[tuple[str, str], ASGIApp]:
        """What is asked for with GET, by method and path."""
        return {
            ("GET", self.pixel_path): self.pixel,
            ("HEAD", self.pixel_path): self.blank,
            ("GET", self.script_path): self.script,
            ("HEAD", self.script_path): self.script,
        }

    async def beacon(self, request: GatewayRequest) -> bytes:
        """Store what a page sends while it closes.

        As `batch`; the key is in the query or the body, since `navigator.sendBeacon` cannot set headers, and the body
        is JSON whatever its content type says.
        """
        request.is_of_browser = True
        return await self._sdk.batch(request)

    async def pixel(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store one event that is written as query parameters.

        The answer is a transparent image of 43 bytes, with errors too: browsers show an image whatever its status, so
        the status can say what became of the event, and X-Error-Code why.
        """
        started = time.perf_counter()
        request = PixelRequest(scope, receive)
        correlation.enter(request.correlation_id)
        status, extra = 200, {}
        try:
            with telemetry.request_span(SERVICE, scope):
                await self._store(request, scope["query_string"])
        except Exception as error:
            known = known_error(error)
            status, extra = known.status, {"X-Error-Code": known.code, **error_headers(known)}
            await self._intake.note_error(request, known)
        headers = [*_pixel_headers(request.correlation_id), *_lines(extra)]
        await _answer(send, status, headers, GIF)
        answered = requests.answered(SERVICE, "GET", scope["path"], status, is_ingestion=status == 200)
        answered.observe(time.perf_counter() - started)

    async def blank(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To who only asks whether there is a pixel; stores nothing."""
        correlation_id = PixelRequest(scope, receive).correlation_id
        await _answer(send, 200, _pixel_headers(correlation_id), b"", len(GIF))

    async def _store(self, request: PixelRequest, query: bytes) -> None:
        received_at = clock.now()
        message = message_of(query, request.referrer)
        request.raw = orjson.dumps(message)
        sender = await self._intake.sender(request, None, received_at)
        decided = await self._intake.decide([segment.envelope(message, None)], sender)
        event = event_of(decided[0])
        single_answer(event, await self._intake.store(decided, sender))


def _pixel_headers(correlation_id: str) -> Headers:
    return [
        (b"content-type", b"image/gif"),
        (b"cache-control", b"no-store"),
        (b"x-correlation-id", correlation_id.encode()),
        *_FOR_ANY_PAGE,
    ]


def _lines(headers: Mapping[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for given, value in scope["headers"] if given == name), None)


async def _answer(send: Send, status: int, headers: Headers, body: bytes = b"", length: int | None = None) -> None:
    """`length` is that of the answer to GET where the body itself is left out."""
    if status != 304:
        headers = [*headers, (b"content-length", b"%d" % (len(body) if length is None else length))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
