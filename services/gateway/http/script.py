"""The tracker script that pages load, with the path of its route filled in."""

import re
import time
from gzip import compress
from hashlib import blake2b
from pathlib import Path

from starlette.types import Receive, Scope, Send

from services.gateway import SERVICE
from services.gateway.http.cors import FOR_ANY_PAGE, Headers, allow_origin
from services.gateway.http.request import RequestHead, find_header
from services.gateway.http.responses import send_response
from tracking.http.request_metrics import REQUEST_METRICS

_SOURCE = Path(__file__).with_name("tracker.js")
_ROUTE_LINE = 'const ROUTE = "beacon";'
_NO_WEIGHT = re.compile(r"q\s*=\s*0(\.0*)?")


class TrackerScript:
    """The script as it is served: compressed once, with the hash of its content as its ETag."""

    def __init__(self, beacon_name: str) -> None:
        source = _SOURCE.read_text()
        if source.count(_ROUTE_LINE) != 1:
            raise ValueError(f"{_SOURCE.name} has no line {_ROUTE_LINE!r}")
        self.plain = source.replace(_ROUTE_LINE, f'const ROUTE = "{beacon_name}";').encode()
        self.packed = compress(self.plain, 9, mtime=0)
        digest = blake2b(self.plain, digest_size=12).hexdigest()
        # Each of the two representations has its own ETag (RFC 9110, 8.8.3.3).
        self._tags = (f'"{digest}"', f'"{digest}-gzip"')
        self._fixed: Headers = [
            (b"cache-control", b"public, max-age=3600"),
            (b"vary", b"Accept-Encoding, Origin"),
            *FOR_ANY_PAGE,
        ]

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Return the script that sends page views and events.

        It is at most 4 KB on the wire. It may be cached for an hour, and revalidated by its ETag.
        """
        started = time.perf_counter()
        is_packed = accepts_gzip(find_header(scope, b"accept-encoding") or "")
        tag = self._tags[is_packed]
        headers = [
            *self._fixed,
            *(header for header in allow_origin(find_header(scope, b"origin")) if header[0] != b"vary"),
            (b"etag", tag.encode()),
            (b"x-correlation-id", RequestHead(scope["headers"]).correlation_id.encode()),
        ]
        if matches_etag(find_header(scope, b"if-none-match") or "", tag):
            status = 304
            await send_response(send, status, headers)
        else:
            status = 200
            body = self.packed if is_packed else self.plain
            headers.append((b"content-type", b"text/javascript; charset=utf-8"))
            if is_packed:
                headers.append((b"content-encoding", b"gzip"))
            await send_response(send, status, headers, b"" if scope["method"] == "HEAD" else body, len(body))
        REQUEST_METRICS.get_route_metrics(SERVICE, "GET", scope["path"], status).observe(time.perf_counter() - started)


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an Accept-Encoding accepts gzip; a weight of 0 rejects it (RFC 9110, 12.5.3)."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return _NO_WEIGHT.fullmatch(weight.strip()) is None
    return False


def matches_etag(if_none_match: str, tag: str) -> bool:
    """Return whether the browser has the content of `tag`, by weak comparison (RFC 9110, 13.1.2)."""
    known = [part.strip().removeprefix("W/") for part in if_none_match.split(",")]
    return tag in known or "*" in known
