"""Load shedding: a request that would exceed the capacity of the commit buffer is rejected with 503 and Retry-After.

That happens before its body is parsed, because under overload every millisecond spent on rejected requests is lost for
storing events. A request that does not come by `tracking.http.protocol` (in pieces, with a query) is rejected by
`Ingestion.read_body` in the same words.
"""

import time

import orjson

from services.gateway.commit.group_commit import GroupCommit
from services.gateway.http.cors import CORS_LINES
from services.gateway.http.request import RequestHead
from services.gateway.http.responses import record_request_metrics
from tracking.domain.errors import Unavailable
from tracking.http.errors import build_error_headers, build_error_payload
from tracking.http.protocol import DeferredResponse, FastPathHandler, Headers


class LoadShedder:
    """The handler of a route: rejects the request, or passes it on to `then`."""

    def __init__(self, path: str, commits: GroupCommit, then: FastPathHandler | None = None) -> None:
        self._path = path
        self._commits = commits
        self._then = then

    def handle(self, headers: Headers, body: bytes, exchange: DeferredResponse) -> bool:
        """True if it was rejected, or `then` took it."""
        try:
            self._commits.require_capacity(len(body))
        except Unavailable as full:
            self._reject(headers, exchange, full)
            return True
        return self._then is not None and self._then(headers, body, exchange)

    def _reject(self, headers: Headers, exchange: DeferredResponse, full: Unavailable) -> None:
        started = time.perf_counter()
        head = RequestHead(headers)
        lines = b"content-type: application/json\r\nx-correlation-id: %b\r\n" % head.correlation_id.encode()
        for name, value in build_error_headers(full).items():
            lines += f"{name.lower()}: {value}\r\n".encode()
        if head.origin is not None:
            lines += CORS_LINES
        exchange.send(full.status, lines, orjson.dumps(build_error_payload(full, head.correlation_id)))
        record_request_metrics(self._path, full.status, started)
