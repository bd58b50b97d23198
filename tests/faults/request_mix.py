"""Makes the requests of the load by seed: single events and batches of many sizes, of several systems, good and bad."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.faults.ledger import Sent

NAMES = ("page_view", "button_click", "order_placed")
ORDER_SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}
"""Registered for `order_placed`, which every third time breaks it: stored and flagged."""
_BATCH_SIZES = (2, 5, 20, 60, 200)
_OLDEST = timedelta(days=40)


@dataclass(frozen=True, slots=True)
class SenderSystem:
    """Who sends."""

    id: str
    api_key: str


@dataclass(slots=True)
class PlannedRequest:
    """One request. `is_repeatable`: all its events have ids of the client's, so that a repeat is harmless."""

    path: str
    body: bytes
    events: list[Sent]
    is_repeatable: bool


class RequestMix:
    """An endless supply; the same seed makes the same requests (but for their times, which are about now)."""

    def __init__(self, systems: list[SenderSystem], seed: int) -> None:
        self._systems = systems
        self._rng = Random(seed)  # noqa: S311
        self._number = 0

    def next(self) -> PlannedRequest:
        """The next one."""
        rng = self._rng
        system = rng.choice(self._systems)
        is_repeatable = rng.random() < 0.7
        size = 1 if rng.random() < 0.6 else rng.choice(_BATCH_SIZES)
        sent, envelopes = zip(*(self._event(system, is_repeatable) for _ in range(size)), strict=True)
        if size == 1:
            return PlannedRequest("/api/events/ingest", _json(envelopes[0], system), list(sent), is_repeatable)
        return PlannedRequest("/api/events/batch", _json({"events": envelopes}, system), list(sent), is_repeatable)

    def _event(self, system: SenderSystem, has_id: bool) -> tuple[Sent, dict[str, Any]]:
        rng = self._rng
        self._number += 1
        marker = f"m{self._number}"
        is_bad = rng.random() < 0.02
        name = rng.choice(NAMES)
        at = datetime.now(UTC) - _OLDEST * rng.random() ** 4
        envelope: dict[str, Any] = {
            "eventName": name,
            "eventTimestamp": at.isoformat(timespec="milliseconds"),
            "eventProperties": {"marker": marker, "text": "x" * rng.randrange(200)},
        }
        if name == "order_placed":
            envelope["eventProperties"]["total"] = "nothing" if rng.random() < 0.3 else 12.5
        if not is_bad:  # an event of nobody is refused
            envelope["userId"] = f"user_{rng.randrange(500)}"
        if has_id:
            envelope["eventId"] = marker
        return Sent(marker, system.id, is_bad), envelope


def _json(body: dict[str, Any], system: SenderSystem) -> bytes:
    return json.dumps({"apiKey": system.api_key, **body}).encode()
