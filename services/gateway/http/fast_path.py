"""The short way of a single event: decided when its last byte arrives, answered when its commit returns, no task.

It takes what nearly every request is: a known key, plain JSON, an event to store. It declines all else before anything
happened, and the request goes through `app.Gateway.ingest`, which answers the same.
"""

import time

import orjson

from services.gateway.commit.group_commit import GroupCommit
from services.gateway.commit.micro_batch import CommitResult
from services.gateway.events import decide, decode
from services.gateway.events.decide import IngestContext
from services.gateway.events.rejection import Rejection
from services.gateway.events.structure_index import SchemaNotLoaded, StructureIndex
from services.gateway.http import clock
from services.gateway.http.paths import INGEST_PATH
from services.gateway.http.request import RequestHead, RequestLimits
from services.gateway.http.responses import known_error, record_request_metrics, render_event
from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.rate_limits import RateLimiter
from tracking.domain.errors import TrackingError
from tracking.domain.tracking_event import TrackingEvent
from tracking.http.errors import build_error_headers, build_error_payload
from tracking.http.protocol import DeferredResponse, Headers
from tracking.infra import correlation, telemetry


class SingleEventFastPath:
    """`take` is the handler of INGEST_PATH for infra.direct."""

    def __init__(
        self,
        keys: ApiKeyLookup,
        structures: StructureIndex,
        commits: GroupCommit,
        rates: RateLimiter,
        limits: RequestLimits,
    ) -> None:
        self._rates = rates
        self._keys = keys
        self._structures = structures
        self._commits = commits
        self._limits = limits

    def handle(self, headers: Headers, body: bytes, exchange: DeferredResponse) -> bool:
        """Store the event and answer after its commit, or decline."""
        started = time.perf_counter()
        head = RequestHead(headers)
        if (
            len(body) > self._limits.event_bytes
            or not head.is_uncompressed
            or head.origin
            or telemetry.is_tracing_enabled()
        ):
            return False
        correlation.set_current(head.correlation_id)
        received_at = clock.get_receive_time()
        try:
            envelope = decode.decode_event(body)
            given = head.find_api_key() or (envelope.get("apiKey") if isinstance(envelope, dict) else None)
            key = self._keys.authenticate_cached(given, received_at) if isinstance(given, str) else None
            if key is None:
                return False
            sender = IngestContext(key, received_at, head.correlation_id, self._limits.event_bytes)
            sender.idempotency_key = head.get_idempotency_key()
            event = decide.decide(envelope, sender, self._structures)
        except (TrackingError, SchemaNotLoaded):
            return False
        if isinstance(event, Rejection) or not self._rates.try_acquire(key.partner_system_id, key.settings, 1):
            return False
        waiting = _PendingResponse(exchange, event, started)
        return self._commits.try_submit(event, key, waiting.respond)


class _PendingResponse:
    """A request whose event is on its way to the disk."""

    __slots__ = ("_event", "_exchange", "_started")

    def __init__(self, exchange: DeferredResponse, event: TrackingEvent, started: float) -> None:
        self._exchange = exchange
        self._event = event
        self._started = started

    def respond(self, outcome: CommitResult, error: BaseException | None) -> None:
        event = self._event
        headers = b"content-type: application/json\r\nx-correlation-id: %b\r\n" % event.correlation_id.encode()
        status = 202
        try:
            if error is not None:
                raise error
            body = render_event(event, outcome)
        except Exception as failure:
            known = known_error(failure)
            status, body = known.status, orjson.dumps(build_error_payload(known, event.correlation_id))
            for name, value in build_error_headers(known).items():
                headers += f"{name.lower()}: {value}\r\n".encode()
        self._exchange.send(status, headers, body)
        record_request_metrics(INGEST_PATH, status, self._started)
