"""Load shedding: a request that would exceed the capacity of the commit buffer is rejected before its body is parsed.

The response is 503 with Retry-After. Under overload every millisecond spent on rejected requests is lost for storing
events. A partner system that is within its share is not rejected, if its key is in the headers. This runs before the
fast path; a request that comes by ASGI (in pieces, with a query) is rejected by `Ingestion.read_body` with the same
response.
"""

import time

from services.gateway.commit.group_commit import GroupCommit
from services.gateway.http.clock import get_receive_time
from services.gateway.http.cors import encode_cors_lines
from services.gateway.http.request import RequestHead
from services.gateway.http.responses import record_request_metrics
from services.gateway.lookups.api_keys import ApiKeyLookup
from tracking.domain.errors import Unavailable
from tracking.http.errors import encode_error_body, encode_error_headers
from tracking.http.protocol import DeferredResponse, FastPathHandler, Headers


class LoadShedder:
    """The fast-path handler of a route: rejects a request, or passes it on to `then`."""

    def __init__(
        self, path: str, commits: GroupCommit, keys: ApiKeyLookup, then: FastPathHandler | None = None
    ) -> None:
        self._path = path
        self._commits = commits
        self._keys = keys
        self._then = then

    def handle(self, headers: Headers, body: bytes, response: DeferredResponse) -> bool:
        """Return True if the request was rejected, or `then` took it."""
        try:
            if not self._commits.has_ample_capacity():
                system = self._keys.find_cached(RequestHead(headers).find_api_key(), get_receive_time())
                self._commits.require_capacity(len(body), system)
        except Unavailable as full:
            self._reject(headers, response, full)
            return True
        return self._then is not None and self._then(headers, body, response)

    def _reject(self, headers: Headers, response: DeferredResponse, full: Unavailable) -> None:
        started = time.perf_counter()
        head = RequestHead(headers)
        lines = encode_error_headers(full, head.correlation_id)
        if head.origin is not None:
            lines += encode_cors_lines(head.origin)
        response.send(full.status, lines, encode_error_body(full, head.correlation_id))
        record_request_metrics(self._path, full.status, started)
