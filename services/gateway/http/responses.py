"""Builds the bodies of the gateway's responses, and counts requests and rejected events."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
from starlette.types import Send

from services.gateway import SERVICE
from services.gateway.commit.micro_batch import CommitResult
from services.gateway.events.rejection import Rejection
from services.gateway.http.cors import Headers
from tracking.domain.errors import Malformed, TooLarge
from tracking.domain.tracking_event import TrackingEvent
from tracking.http.request_metrics import REQUEST_METRICS, RouteMetrics
from tracking.infra import metrics

_MAX_LISTED_REJECTIONS = 20
_TOO_LARGE = frozenset({"event_too_large", "too_deep"})


def require_event(decided: TrackingEvent | Rejection) -> TrackingEvent:
    """The event of a request for one event. Raises Malformed or TooLarge if it is refused."""
    if isinstance(decided, TrackingEvent):
        return decided
    metrics.events_rejected.labels(decided.reason).inc()
    kind = TooLarge if decided.reason in _TOO_LARGE else Malformed
    raise kind(decided.reason, decided.message, decided.faults)


def render_event(event: TrackingEvent, outcome: CommitResult, *, is_dry_run: bool = False) -> bytes:
    """The body of 202 for one event. Raises Malformed if PostgreSQL refused it."""
    if outcome.rejected:
        metrics.events_rejected.labels("not_storable").inc()
        raise Malformed("not_storable", f"PostgreSQL cannot hold this event: {outcome.rejected[0]}")
    # orjson is the quickest with ids and times; the words around them cost it more than this
    return b'{"eventId":%b,"isValid":%b,"validationErrors":%b,"receivedAt":%b%b%b}' % (
        orjson.dumps(event.id),
        b"true" if event.is_valid else b"false",
        b"null" if event.validation_errors is None else event.validation_errors,
        _format_quoted(event.received_at),
        b',"duplicate":true' if outcome.duplicates else b"",
        b',"dryRun":true' if is_dry_run else b"",
    )


def render_batch(
    decided: Sequence[TrackingEvent | Rejection],
    outcome: CommitResult,
    received_at: datetime,
    *,
    is_dry_run: bool = False,
) -> bytes:
    """The body of 202 for a batch: the sums, and a result for each event in its order."""
    sums, results = _results(decided, outcome)
    dry_run = {"dryRun": True} if is_dry_run else {}
    return orjson.dumps({**sums, **dry_run, "receivedAt": format_timestamp_ms(received_at), "results": results})


def render_sdk_batch(
    decided: Sequence[TrackingEvent | Rejection], outcome: CommitResult, *, is_dry_run: bool = False
) -> bytes:
    """The body of 200 for a batch of an SDK, which reads no results: the sums, and the first refusals for a person."""
    sums, results = _results(decided, outcome)
    refusals = [{"index": n, **result} for n, result in enumerate(results) if result.pop("status") == "refused"]
    dry_run = {"dryRun": True} if is_dry_run else {}
    return orjson.dumps({"success": True, **sums, **dry_run, "refusals": refusals[:_MAX_LISTED_REJECTIONS]})


def _results(
    decided: Sequence[TrackingEvent | Rejection], outcome: CommitResult
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    results: list[dict[str, Any]] = []
    refused = invalid = position = 0
    for item in decided:
        if isinstance(item, Rejection):
            metrics.events_rejected.labels(item.reason).inc()
            refused += 1
            result: dict[str, Any] = {"status": "refused", "code": item.reason, "message": item.message}
            if item.faults:
                result["details"] = item.faults
        elif position in outcome.rejected:
            metrics.events_rejected.labels("not_storable").inc()
            refused += 1
            position += 1
            result = {"status": "refused", "code": "not_storable", "message": outcome.rejected[position - 1]}
        else:
            is_duplicate = position in outcome.duplicates
            position += 1
            invalid += not is_duplicate and not item.is_valid
            result = {
                "status": "duplicate" if is_duplicate else "accepted",
                "eventId": item.id,
                "isValid": item.is_valid,
                "validationErrors": _errors(item),
            }
        results.append(result)
    sums = {
        "accepted": len(decided) - refused - len(outcome.duplicates),
        "duplicates": len(outcome.duplicates),
        "invalid": invalid,
        "refused": refused,
    }
    return sums, results


def _errors(event: TrackingEvent) -> orjson.Fragment | None:
    return orjson.Fragment(event.validation_errors) if event.validation_errors is not None else None


def format_timestamp_ms(at: datetime) -> str:
    """Milliseconds and Z, as the specification writes times."""
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


@lru_cache(1)
def _format_quoted(at: datetime) -> bytes:
    """As `format_timestamp_ms`, quoted; `isoformat` takes four times as long. Events of a commit often share it."""
    text = orjson.dumps(at, option=orjson.OPT_UTC_Z)
    return text[:24] + b'Z"' if at.microsecond else text[:20] + b'.000Z"'


_answered: dict[tuple[str, int], RouteMetrics] = {}


def record_request_metrics(path: str, status: int, started: float) -> None:
    """Count a request and how long it took since `started`, a reading of `time.perf_counter`."""
    found = _answered.get((path, status))
    if found is None:
        found = _answered[(path, status)] = REQUEST_METRICS.get_route_metrics(
            SERVICE, "POST", path, status, is_ingestion=status in (200, 202)
        )
    found.observe(time.perf_counter() - started)


def encode_headers(headers: Mapping[str, str]) -> Headers:
    """Headers as ASGI wants them: names in lower case, as bytes."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def send_response(
    send: Send, status: int, headers: Headers, body: bytes = b"", length: int | None = None
) -> None:
    """Send a whole response; `length` is the body's length in the response to GET where HEAD leaves the body out."""
    if status != 304:
        headers = [*headers, (b"content-length", b"%d" % (len(body) if length is None else length))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
