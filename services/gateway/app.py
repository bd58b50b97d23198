"""The gateway's HTTP edge: bytes in, status out.

Raw ASGI on the two routes that carry traffic: a Starlette route costs much of the throughput (docs/benchmarks.md).
Starlette for health, metrics and documentation.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway import ingest
from services.gateway.answers import SERVICE, EventCounts, batch_answer, known_error, observe, single_answer
from services.gateway.commit import GroupCommit, Outcome
from services.gateway.documents import BatchAnswer, BatchRequest, IngestAnswer, IngestRequest
from services.gateway.ingest import Refused, Sender
from services.gateway.keys import ApiKeys
from services.gateway.request import ClientGone, Limits, Request, Room
from services.gateway.single import INGEST_PATH
from services.gateway.structures import NotLoaded, Structures
from tracking.domain.errors import Malformed, TooLarge
from tracking.domain.tracking_event import TrackingEvent, parse_timestamp
from tracking.infra import correlation, metrics, telemetry
from tracking.infra.http import Edge, ErrorBody, error_headers, error_payload
from tracking.infra.openapi import Documentation
from tracking.infra.process import Health

_log = logging.getLogger(__name__)
BATCH_PATH = "/api/events/batch"
_DRAIN_BYTES = 32 * 1024 * 1024
_DRAIN_S = 3.0
_HOLD_S = 0.010
_TOO_LARGE = frozenset({"event_too_large", "too_deep"})
_ERRORS: dict[int, type[BaseModel] | None] = dict.fromkeys((400, 401, 403, 413, 503), ErrorBody)


class Gateway:
    """Handles the two ingest routes."""

    def __init__(
        self, keys: ApiKeys, structures: Structures, commits: GroupCommit, counts: EventCounts, limits: Limits
    ) -> None:
        self._keys = keys
        self._structures = structures
        self._commits = commits
        self._limits = limits
        self._room = Room(limits.bodies_bytes)
        self._counts = counts

    async def ingest(self, request: Request) -> bytes:
        """Store one event.

        202 says that the event is on disk. An event that breaks its schema is stored too, with isValid=false.
        """
        body = await request.body(self._limits, self._room)
        received_at = ingest.now()
        envelope = ingest.decode_single(body)
        in_body = envelope.get("apiKey") if isinstance(envelope, dict) else None
        sender = await self._sender(request, in_body, received_at)
        [decided] = await self._decide([envelope], sender)
        if isinstance(decided, Refused):
            metrics.events_refused.labels(decided.reason).inc()
            kind = TooLarge if decided.reason in _TOO_LARGE else Malformed
            raise kind(decided.reason, decided.message, decided.faults)
        outcome = await self._commits.submit((decided,), sender.key)
        body = single_answer(decided, outcome)
        self._counts.count(sender.key, (decided,), outcome)
        return body

    async def batch(self, request: Request) -> bytes:
        """Store many events.

        202 says that every event not listed as refused is on disk; one bad event never refuses the others.
        """
        body = await request.body(self._limits, self._room)
        received_at = ingest.now()
        batch = ingest.decode_batch(body)
        sender = await self._sender(request, batch.api_key, received_at)
        if len(batch.envelopes) > self._limits.batch_events:
            raise TooLarge(
                "too_many_events", f"{len(batch.envelopes)} events; the limit is {self._limits.batch_events} a batch."
            )
        sender.sent_at = _sent_at(batch.sent_at)
        decided = await self._decide(batch.envelopes, sender)
        events = [event for event in decided if isinstance(event, TrackingEvent)]
        outcome = await self._commits.submit(events, sender.key) if events else Outcome()
        self._counts.count(sender.key, events, outcome)
        return batch_answer(decided, outcome, received_at)

    async def _sender(self, request: Request, key_in_body: Any, received_at: datetime) -> Sender:
        given = request.api_key() or (key_in_body if isinstance(key_in_body, str) else None)
        return Sender(
            key=self._keys.authenticate_known(given, received_at) or await self._keys.authenticate(given, received_at),
            received_at=received_at,
            correlation_id=request.correlation_id,
            event_bytes=self._limits.event_bytes,
            idempotency_key=request.idempotency_key(),
        )

    async def _decide(self, envelopes: list[Any], sender: Sender) -> list[TrackingEvent | Refused]:
        """Decide one after the other; where a validator must be loaded first, wait for it and go on from there."""
        decided: list[TrackingEvent | Refused] = []
        while len(decided) < len(envelopes):
            until = time.perf_counter() + _HOLD_S
            try:
                # one at a time: what was decided before the exception stays decided
                for position in range(len(decided), len(envelopes)):
                    decided.append(ingest.decide(envelopes[position], sender, self._structures, position))
                    if time.perf_counter() > until:
                        # a large batch, or one whose schemas cost much: the requests of others get their turn
                        await asyncio.sleep(0)
                        until = time.perf_counter() + _HOLD_S
            except NotLoaded as missing:
                await self._structures.load(missing.wanted)
        return decided


def _sent_at(value: Any) -> datetime | None:
    # of the whole batch: an unreadable one only means that clocks are not corrected
    return parse_timestamp(value) if isinstance(value, str) else None


Handler = Callable[[Request], Awaitable[bytes]]


class App:
    """The ASGI application: hot routes by a dictionary, the rest by Starlette."""

    def __init__(self, gateway: Gateway, rest: ASGIApp) -> None:
        self._handlers: dict[str, Handler] = {INGEST_PATH: gateway.ingest, BATCH_PATH: gateway.batch}
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._rest(scope, receive, send)
            return
        handler = self._handlers.get(scope["path"])
        if handler is None:
            await self._rest(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope, receive)
        correlation.enter(request.correlation_id)
        extra: dict[str, str] = {}
        try:
            if telemetry.is_tracing():
                with telemetry.request_span(SERVICE, scope):
                    body = await handler(request)
            else:
                body = await handler(request)
            status = 202
        except ClientGone:
            observe(scope["path"], 499, started)
            return
        except Exception as error:
            known = known_error(error)
            status, extra = known.status, error_headers(known)
            body = orjson.dumps(error_payload(known, request.correlation_id))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-correlation-id", request.correlation_id.encode()),
        ]
        headers.extend((name.lower().encode(), value.encode()) for name, value in extra.items())
        if not request.is_read:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if request.is_read:
            await send({"type": "http.response.body", "body": body})
        else:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await request.drain(_DRAIN_BYTES, _DRAIN_S)
            await send({"type": "http.response.body", "body": b""})
        observe(scope["path"], status, started)


def build(gateway: Gateway, health: Health) -> App:
    """The application with its health, metrics and documentation."""
    docs = Documentation(
        title="Volcanion Tracking gateway",
        description="Receives events. 202 says that they are on disk; a repeat with the same eventId is harmless.",
        version="1",
        credential="api_key",
    )
    answers: dict[int, type[BaseModel] | None] = {202: IngestAnswer, **_ERRORS}
    documented = Starlette(
        routes=[
            Route(
                INGEST_PATH,
                docs.route(body=IngestRequest, answers=answers, tag="events", operation_id="ingest")(Gateway.ingest),
                methods=["POST"],
            ),
            Route(
                BATCH_PATH,
                docs.route(
                    body=BatchRequest, answers={**answers, 202: BatchAnswer}, tag="events", operation_id="batch"
                )(Gateway.batch),
                methods=["POST"],
            ),
        ]
    )
    # the two routes once more, for the 405 of another method
    rest = Starlette(routes=[*health.routes(), *docs.routes(documented), *documented.routes])
    return App(gateway, Edge(rest, SERVICE))
