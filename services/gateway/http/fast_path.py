"""Fast path of `POST /api/events/ingest`.

The event is decided as soon as the body is complete, and the response is sent from the commit's callback, so no asyncio
task is created. Only the common case is handled here: a cached key, uncompressed JSON, an event to store. Everything
else is declined before any side effect and goes through `http/app.py`, which gives the same response.
"""

import time
from random import getrandbits

from services.gateway.commit.group_commit import GroupCommit
from services.gateway.commit.micro_batch import CommitResult
from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.decode import decode_event
from services.gateway.events.rejection import Rejection
from services.gateway.events.structure_index import SchemaNotLoaded, StructureIndex
from services.gateway.http.clock import get_receive_ms, get_receive_time
from services.gateway.http.paths import INGEST_PATH
from services.gateway.http.request import RequestHead, RequestLimits
from services.gateway.http.responses import record_request_metrics, render_event
from services.gateway.http.unknown_senders import UnknownSenders, find_keys_in_body
from services.gateway.lookups.api_keys import ApiKeyLookup
from services.gateway.lookups.rate_limits import RateLimiter
from services.gateway.lookups.retention import RetentionLookup
from tracking.domain.errors import TrackingError
from tracking.domain.idempotency_key import make_idempotency_key
from tracking.domain.tracking_event import TrackingEvent
from tracking.http.errors import encode_error_body, encode_error_headers, to_tracking_error
from tracking.http.protocol import DeferredResponse, Headers
from tracking.infra import correlation, telemetry


class SingleEventFastPath:
    """`handle` is the fast-path handler of INGEST_PATH."""

    def __init__(
        self,
        keys: ApiKeyLookup,
        structures: StructureIndex,
        retention: RetentionLookup,
        commits: GroupCommit,
        rate_limiter: RateLimiter,
        limits: RequestLimits,
        unknown_senders: UnknownSenders,
    ) -> None:
        self._unknown_senders = unknown_senders
        self._rate_limiter = rate_limiter
        self._keys = keys
        self._structures = structures
        self._retention = retention
        self._commits = commits
        self._limits = limits

    def handle(self, headers: Headers, body: bytes, response: DeferredResponse) -> bool:
        """Store the event and respond after its commit, or decline."""
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
        received_at = get_receive_time()
        try:
            given = head.find_api_key()
            key = self._keys.authenticate_cached(given, received_at) if given else None
            if key is None and given:
                return False
            if key is None and self._unknown_senders.is_under_pressure and not self._names_a_known_key(body):
                return False
            envelope = decode_event(body)
            if key is None:
                given = envelope.get("apiKey") if isinstance(envelope, dict) else None
                key = self._keys.authenticate_cached(given, received_at) if isinstance(given, str) else None
                if key is None:
                    return False
            sender = IngestContext(
                key, received_at, get_receive_ms(received_at), head.correlation_id, self._limits.event_bytes
            )
            sender.raw_since = self._retention.raw_since
            name = sender.idempotency_key = head.get_idempotency_key()
            if name is not None:
                sender.request_key = make_idempotency_key(key.partner_system_id, name, body)
            event = decide(envelope, sender, self._structures, getrandbits(74))
        except (TrackingError, SchemaNotLoaded):
            return False
        if isinstance(event, Rejection) or not self._rate_limiter.try_acquire(key.partner_system_id, key.settings, 1):
            return False
        pending = _PendingResponse(response, event, started)
        return self._commits.try_submit(event, key, pending.respond, sender.request_key)

    def _names_a_known_key(self, body: bytes) -> bool:
        """Whether a body may be of a known sender, as far as that is seen without parsing it."""
        at = get_receive_time()
        return any(self._keys.find_cached(candidate, at) is not None for candidate in find_keys_in_body(body))


class _PendingResponse:
    """A request whose event waits for its commit."""

    __slots__ = ("_event", "_response", "_started")

    def __init__(self, response: DeferredResponse, event: TrackingEvent, started: float) -> None:
        self._response = response
        self._event = event
        self._started = started

    def respond(self, result: CommitResult, error: BaseException | None) -> None:
        event = self._event
        headers = b"content-type: application/json\r\nx-correlation-id: %b\r\n" % event.correlation_id.encode()
        status = 202
        try:
            if error is not None:
                raise error
            body = render_event(event, result)
        except Exception as failure:
            answered = to_tracking_error(failure)
            status, body = answered.status, encode_error_body(answered, event.correlation_id)
            headers = encode_error_headers(answered, event.correlation_id)
        self._response.send(status, headers, body)
        record_request_metrics(INGEST_PATH, status, self._started)
