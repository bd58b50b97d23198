"""The bodies of the gateway's responses, and their metrics."""

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
    """Return the event of a request for one event. Raises Malformed or TooLarge if it is rejected."""
    if isinstance(decided, TrackingEvent):
        return decided
    metrics.events_rejected.labels(decided.reason).inc()
    kind = TooLarge if decided.reason in _TOO_LARGE else Malformed
    raise kind(decided.reason, decided.message, decided.field_errors)


def render_event(event: TrackingEvent, commit_result: CommitResult, *, is_dry_run: bool = False) -> bytes:
    """Render the body of 202 for one event. Raises Malformed if PostgreSQL rejected it."""
    if commit_result.rejected:
        metrics.events_rejected.labels("not_storable").inc()
        raise Malformed("not_storable", f"PostgreSQL cannot hold this event: {commit_result.rejected[0]}")
    # orjson is fastest for ids and times, but for the constant text around them this is faster.
    return b'{"eventId":%b,"isValid":%b,"validationErrors":%b,"receivedAt":%b%b%b}' % (
        orjson.dumps(commit_result.get_event_id(0, event)),
        b"true" if event.is_valid else b"false",
        b"null" if event.validation_errors is None else event.validation_errors,
        format_quoted_timestamp_ms(event.received_at),
        b',"duplicate":true' if commit_result.duplicates else b"",
        b',"dryRun":true' if is_dry_run else b"",
    )


def render_batch(
    decided: Sequence[TrackingEvent | Rejection],
    commit_result: CommitResult,
    received_at: datetime,
    *,
    is_dry_run: bool = False,
) -> bytes:
    """Render the body of 202 for a batch: the sums, and a result for each event in its order."""
    sums, results = _results(decided, commit_result)
    dry_run = {"dryRun": True} if is_dry_run else {}
    return orjson.dumps({**sums, **dry_run, "receivedAt": format_timestamp_ms(received_at), "results": results})


def render_sdk_batch(
    decided: Sequence[TrackingEvent | Rejection], commit_result: CommitResult, *, is_dry_run: bool = False
) -> bytes:
    """Render the body of 200 for a batch of an SDK: the sums, and the first rejected messages for a person.

    SDKs do not read the results of single messages.
    """
    sums, results = _results(decided, commit_result)
    refusals = [{"index": n, **result} for n, result in enumerate(results) if result.pop("status") == "refused"]
    dry_run = {"dryRun": True} if is_dry_run else {}
    return orjson.dumps({"success": True, **sums, **dry_run, "refusals": refusals[:_MAX_LISTED_REJECTIONS]})


def _results(
    decided: Sequence[TrackingEvent | Rejection], commit_result: CommitResult
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    results: list[dict[str, Any]] = []
    refused = invalid = position = 0
    for item in decided:
        if isinstance(item, Rejection):
            metrics.events_rejected.labels(item.reason).inc()
            refused += 1
            result: dict[str, Any] = {"status": "refused", "code": item.reason, "message": item.message}
            if item.field_errors:
                result["details"] = item.field_errors
        elif position in commit_result.rejected:
            metrics.events_rejected.labels("not_storable").inc()
            refused += 1
            position += 1
            result = {"status": "refused", "code": "not_storable", "message": commit_result.rejected[position - 1]}
        else:
            is_duplicate = position in commit_result.duplicates
            event_id = commit_result.get_event_id(position, item)
            position += 1
            invalid += not is_duplicate and not item.is_valid
            result = {
                "status": "duplicate" if is_duplicate else "accepted",
                "eventId": event_id,
                "isValid": item.is_valid,
                "validationErrors": _errors(item),
            }
        results.append(result)
    sums = {
        "accepted": len(decided) - refused - len(commit_result.duplicates),
        "duplicates": len(commit_result.duplicates),
        "invalid": invalid,
        "refused": refused,
    }
    return sums, results


def _errors(event: TrackingEvent) -> orjson.Fragment | None:
    return orjson.Fragment(event.validation_errors) if event.validation_errors is not None else None


def format_timestamp_ms(at: datetime) -> str:
    """Format a time with milliseconds and Z, as the specification writes times."""
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


@lru_cache(1)
def format_quoted_timestamp_ms(at: datetime) -> bytes:
    """Format a time as `format_timestamp_ms` does, with quotes; `isoformat` takes four times as long.

    Responses that are sent after one commit often share the text.
    """
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
    """Encode headers as ASGI requires them: as bytes, with names in lower case."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


async def send_response(
    send: Send, status: int, headers: Headers, body: bytes = b"", length: int | None = None
) -> None:
    """Send a whole response; `length` is the body's length in the response to GET where HEAD leaves the body out."""
    if status != 304:
        headers = [*headers, (b"content-length", b"%d" % (len(body) if length is None else length))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
