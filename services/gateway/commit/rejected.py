"""The refused inbox: what a known sender sent and could not be stored, kept for a person to look at.

Off the way of requests: notes gather in memory and are written once a second. It is a help and no promise: beyond its
bounds, and while the database is away, notes are dropped and counted.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from random import getrandbits
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from services.gateway.commit.micro_batch import CommitResult
from services.gateway.events.rejection import Rejection
from services.gateway.http.request import GatewayRequest
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import TrackingError
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import metrics, postgres
from tracking.infra.postgres import Pool
from tracking.tables.rejected_events import (
    RejectedEventRow,
    delete_rejected_events_beyond,
    insert_rejected_events,
)

_log = logging.getLogger(__name__)
MAX_EVENTS_PER_SYSTEM = 1_000
MAX_RAW_BYTES = 64 * 1024
_FLUSH_INTERVAL_S = 1.0
# a second; one sender's flood leaves room for the others
_MAX_WAITING_EVENTS_PER_FLUSH = 500
_MAX_WAITING_EVENTS_PER_SYSTEM = 100
_MAX_WAITING_BYTES = 8 * 1024 * 1024
_MAX_MESSAGE_CHARACTERS = 1_000
_MAX_FIELD_ERRORS = 20

_KEYS = re.compile(rb'sk_[A-Za-z0-9]{16,}|(?<="apiKey")\s*:\s*"[^"]*"?|(?<="writeKey")\s*:\s*"[^"]*"?')
_ADDRESSES = re.compile(rb'(?<="ip")\s*:\s*"[^"]*"?')


class _Why(NamedTuple):
    reason: str
    message: str
    faults: Sequence[dict[str, Any]]


class RejectedEventWriter:
    """Note what was refused; `run` writes it down, `flush` does so once."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: list[RejectedEventRow] = []
        self._of_system: Counter[UUID] = Counter()
        self._waiting_bytes = 0

    def record_request(self, request: GatewayRequest, key: ApiKeyEntry, error: TrackingError) -> None:
        """A request that was refused as a whole, with its body as far as it was read."""
        raw_bytes = request.declared_bytes or len(request.raw_body or b"")
        self._enqueue(request, key, None, _Why(error.code, error.message, error.details), request.raw_body, raw_bytes)

    def record_batch(
        self,
        request: GatewayRequest,
        key: ApiKeyEntry,
        envelopes: Sequence[Any],
        decided: Sequence[TrackingEvent | Rejection],
        outcome: CommitResult,
    ) -> None:
        """What was refused of a batch: what is no event, and what PostgreSQL cannot hold."""
        events = 0
        for position, (envelope, item) in enumerate(zip(envelopes, decided, strict=True)):
            line = None
            if isinstance(item, Rejection):
                line, why = item.raw, _Why(item.reason, item.message, item.faults)
            else:
                events += 1
                if events - 1 not in outcome.rejected:
                    continue
                why = _Why("not_storable", outcome.rejected[events - 1], ())
            raw = line if line is not None else _dumped(envelope)
            self._enqueue(request, key, position, why, raw, len(raw or b""))

    def _enqueue(
        self,
        request: GatewayRequest,
        key: ApiKeyEntry,
        position: int | None,
        why: _Why,
        raw: bytes | None,
        raw_bytes: int,
    ) -> None:
        system_id = key.partner_system_id
        size_bytes = min(len(raw or b""), MAX_RAW_BYTES)
        if (
            len(self._waiting) >= _MAX_WAITING_EVENTS_PER_FLUSH
            or self._of_system[system_id] >= _MAX_WAITING_EVENTS_PER_SYSTEM
            or self._waiting_bytes + size_bytes > _MAX_WAITING_BYTES
        ):
            metrics.rejected_events_dropped.inc()
            return
        self._of_system[system_id] += 1
        self._waiting_bytes += size_bytes
        now = datetime.now(UTC)
        self._waiting.append(
            RejectedEventRow(
                make_uuid7(to_unix_ms(now), getrandbits(74)),
                system_id,
                now,
                request.path,
                position,
                why.reason,
                why.message[:_MAX_MESSAGE_CHARACTERS],
                orjson.dumps(why.faults[:_MAX_FIELD_ERRORS]),
                None if raw is None else mask_raw_body(raw, key, request.find_api_key()),
                raw_bytes,
                request.correlation_id,
            )
        )

    async def run(self) -> None:
        """Write each second, for ever."""
        while True:
            await asyncio.sleep(_FLUSH_INTERVAL_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits."""
        rows, self._waiting, self._waiting_bytes = self._waiting, [], 0
        self._of_system.clear()
        if not rows:
            return
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await insert_rejected_events(connection, rows)
                for system_id in sorted({row.partner_system_id for row in rows}):
                    await delete_rejected_events_beyond(connection, system_id, MAX_EVENTS_PER_SYSTEM)
        except postgres.POSTGRES_ERRORS as error:
            metrics.rejected_events_dropped.inc(len(rows))
            _log.warning("%d refusals could not be kept: %s", len(rows), postgres.describe_error(error))


def mask_raw_body(raw: bytes, key: ApiKeyEntry, given_key: str | None = None) -> bytes | None:
    """The first 64 KiB without keys and, unless the system keeps them, addresses; None where privacy rules apply."""
    if key.settings.privacy_rules:
        return None
    # looked through before the cut, or half a key could stay
    text = raw[: 2 * MAX_RAW_BYTES]
    if given_key:
        text = text.replace(given_key.encode("latin-1"), b"***")
    text = _KEYS.sub(_masked, text)
    if key.settings.ip_policy != "keep":
        text = _ADDRESSES.sub(_masked, text)
    return text[:MAX_RAW_BYTES]


def _masked(found: re.Match[bytes]) -> bytes:
    return b': "***"' if found[0].lstrip().startswith(b":") else b"***"


def _dumped(envelope: Any) -> bytes | None:
    """None for what is nested too deep to be written."""
    try:
        return orjson.dumps(envelope)
    except orjson.JSONEncodeError:
        return None
