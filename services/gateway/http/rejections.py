"""Makes rows of `write.refused_events` from rejected requests and events, with their secrets masked.

If the writer has no capacity for a row, nothing is masked for it: a flood of rejected events must cost little.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from random import getrandbits
from typing import Any, NamedTuple

import orjson

from services.gateway.commit.micro_batch import CommitResult
from services.gateway.commit.rejected import RejectedEventWriter
from services.gateway.events.envelope import FlaggedEnvelope
from services.gateway.events.rejection import Rejection
from services.gateway.http.request import GatewayRequest
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import TrackingError
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.tables.rejected_events import RejectedEventRow

MAX_RAW_BYTES = 64 * 1024
_MAX_MESSAGE_CHARACTERS = 1_000
_MAX_FIELD_ERRORS = 20

_KEYS = re.compile(rb'sk_[A-Za-z0-9]{16,}|(?<="apiKey")\s*:\s*"[^"]*"?|(?<="writeKey")\s*:\s*"[^"]*"?')
_ADDRESSES = re.compile(rb'(?<="ip")\s*:\s*"[^"]*"?')


class _Why(NamedTuple):
    reason: str
    message: str
    field_errors: Sequence[dict[str, Any]]


def record_request(
    writer: RejectedEventWriter, request: GatewayRequest, key: ApiKeyEntry, error: TrackingError
) -> None:
    """Record a request that was rejected as a whole, with the part of its body that was read."""
    raw_bytes = request.declared_bytes or len(request.raw_body or b"")
    why = _Why(error.code, error.message, error.details)
    _record(writer, request, key, None, why, request.raw_body, raw_bytes)


def record_batch(
    writer: RejectedEventWriter,
    request: GatewayRequest,
    key: ApiKeyEntry,
    envelopes: Sequence[Any],
    decided: Sequence[TrackingEvent | Rejection],
    result: CommitResult,
) -> None:
    """Record the envelopes of a batch that are not events, and the events that PostgreSQL cannot store."""
    events = 0
    for position, (envelope, item) in enumerate(zip(envelopes, decided, strict=True)):
        line = None
        if isinstance(item, Rejection):
            line, why = item.raw, _Why(item.reason, item.message, item.field_errors)
        else:
            events += 1
            if events - 1 not in result.rejected:
                continue
            why = _Why("not_storable", result.rejected[events - 1], ())
        if line is None and isinstance(envelope, FlaggedEnvelope):
            line = envelope.raw
        raw = line if line is not None else _encode(envelope)
        _record(writer, request, key, position, why, raw, len(raw or b""))


def _record(
    writer: RejectedEventWriter,
    request: GatewayRequest,
    key: ApiKeyEntry,
    position: int | None,
    why: _Why,
    raw: bytes | None,
    raw_bytes: int,
) -> None:
    if not writer.try_reserve(key.partner_system_id, min(len(raw or b""), MAX_RAW_BYTES)):
        return
    now = datetime.now(UTC)
    writer.enqueue(
        RejectedEventRow(
            make_uuid7(to_unix_ms(now), getrandbits(74)),
            key.partner_system_id,
            now,
            request.path,
            position,
            why.reason,
            why.message[:_MAX_MESSAGE_CHARACTERS],
            orjson.dumps(why.field_errors[:_MAX_FIELD_ERRORS]),
            None if raw is None else mask_raw_body(raw, key, request.find_api_key()),
            raw_bytes,
            request.correlation_id,
        )
    )


def mask_raw_body(raw: bytes, key: ApiKeyEntry, given_key: str | None = None) -> bytes | None:
    """Return the first 64 KiB without keys and, unless the system keeps them, addresses;

    None if privacy rules apply.
    """
    if key.settings.privacy_rules:
        return None
    # Secrets are masked before the text is cut, because half a key could remain otherwise.
    text = raw[: 2 * MAX_RAW_BYTES]
    if given_key:
        text = text.replace(given_key.encode("latin-1"), b"***")
    text = _KEYS.sub(_mask, text)
    if key.settings.ip_policy != "keep":
        text = _ADDRESSES.sub(_mask, text)
    return text[:MAX_RAW_BYTES]


def _mask(found: re.Match[bytes]) -> bytes:
    return b': "***"' if found[0].lstrip().startswith(b":") else b"***"


def _encode(envelope: Any) -> bytes | None:
    """Encode the value as JSON; return None if it is nested too deep to be written."""
    try:
        return orjson.dumps(envelope)
    except orjson.JSONEncodeError:
        return None
