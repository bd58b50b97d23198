"""The steps of sending one batch until each event has ended: post, pause, post again, in halves if necessary. No IO.

An event counts as stored only if a 202 names it. In all cases of doubt it is sent again, which is harmless because the
gateway recognizes duplicates.
"""

import gzip
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from tracking_client.options import Options
from tracking_client.outcome import Failure, Stored
from tracking_client.tracking_methods import EncodedEvent

_RETRYABLE_STATUSES = frozenset({0, 408, 429})
# one event can make a whole batch unreadable or too large; alone it harms no other
_BODY_ERROR_CODES = frozenset({"malformed_json", "malformed_encoding"})
_MAX_RETRY_AFTER_S = 300.0
# a gateway takes what inflates up to 100 times for an attack
_MAX_RATIO = 50
_MAX_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """The response to a Post: `status` 0 means that none came, `payload` is the JSON of the body or None."""

    status: int
    payload: Any = None
    retry_after_s: float | None = None
    error_text: str = ""
    """The error for a person, if the payload has no message."""

    def read_results(self, count: int) -> list[dict[str, Any]] | None:
        """Return one result for each of `count` events; None if the response acknowledges nothing."""
        if self.status != 202 or not isinstance(self.payload, dict):
            return None
        results = self.payload.get("results")
        is_whole = isinstance(results, list) and len(results) == count and all(map(_is_result, results))
        return results if is_whole else None

    @property
    def code(self) -> str:
        """The gateway's error code, or `http_<status>`."""
        return str(self.payload["code"]) if self._is_gateway_error else f"http_{self.status}"

    @property
    def message(self) -> str:
        """The reason why the events were not stored."""
        return str(self.payload.get("message", "")) if self._is_gateway_error else self.error_text

    @property
    def _is_gateway_error(self) -> bool:
        return isinstance(self.payload, dict) and "code" in self.payload

    @property
    def is_final(self) -> bool:
        """Whether the same request would get the same response: 3xx and 4xx. A 200 is no gateway's, and may pass."""
        return 300 <= self.status < 500 and self.status not in _RETRYABLE_STATUSES


@dataclass(frozen=True, slots=True)
class Post:
    """The step of sending these events; its response goes to `Delivery.handle_response`."""

    events: Sequence[EncodedEvent]

    def encode_body(self, sent_at: datetime, gzip_from_bytes: int) -> tuple[bytes, str | None]:
        """Return the bytes to send and their Content-Encoding."""
        head = f'{{"sentAt":"{sent_at.isoformat().replace("+00:00", "Z")}","events":['.encode()
        plain = head + b",".join(event.body for event in self.events) + b"]}"
        if len(plain) < gzip_from_bytes:
            return plain, None
        packed = gzip.compress(plain, compresslevel=6, mtime=0)
        return (packed, "gzip") if len(packed) * _MAX_RATIO > len(plain) else (plain, None)


@dataclass(frozen=True, slots=True)
class Pause:
    """The step of waiting; afterwards ask for the next step."""

    seconds: float


class Delivery:
    """The delivery of one batch. Times are readings of `time.monotonic`."""

    def __init__(self, events: Sequence[EncodedEvent], options: Options, random: Random) -> None:
        self._options = options
        self._random = random
        self._parts: deque[Sequence[EncodedEvent]] = deque([events])
        self._attempts = 0
        self._tried_since: float | None = None
        self._pause_s: float | None = None

    def step(self, now: float) -> Post | Pause | None:
        """Return the next step; None when every event has ended."""
        if not self._parts:
            return None
        if self._pause_s is not None:
            pause, self._pause_s = Pause(self._pause_s), None
            return pause
        if self._tried_since is None:
            self._tried_since = now
        return Post(self._parts[0])

    def handle_response(self, response: GatewayResponse, now: float) -> list[Stored | Failure]:
        """Take the response to the last Post and return the outcomes of the events that have ended by it."""
        if not self._parts:
            return []  # withdrawn meanwhile
        events = self._parts[0]
        results = response.read_results(len(events))
        if results is not None:
            self._drop_part()
            return [_make_outcome(event, result) for event, result in zip(events, results, strict=True)]
        if len(events) > 1 and (
            response.status == 413 or (response.status == 400 and response.code in _BODY_ERROR_CODES)
        ):
            half = len(events) // 2
            self._drop_part()
            self._parts.extendleft((events[half:], events[:half]))
            return []
        if response.is_final:
            self._drop_part()
            return [_make_failure(event, response.code, response.message) for event in events]
        return self._schedule_retry(events, response, now)

    def withdraw(self) -> list[EncodedEvent]:
        """Return the events that have not ended, and end the delivery: there are no further steps."""
        events = [event for part in self._parts for event in part]
        self._parts.clear()
        return events

    def _schedule_retry(
        self, events: Sequence[EncodedEvent], response: GatewayResponse, now: float
    ) -> list[Stored | Failure]:
        if self._tried_since is not None and now - self._tried_since >= self._options.retry_for_s:
            self._drop_part()
            message = f"Tried for {self._options.retry_for_s:g} s, at last: {response.code}: {response.message}"
            return [_make_failure(event, "not_acknowledged", message) for event in events]
        self._pause_s = self._choose_pause_s(response.retry_after_s)
        self._attempts += 1
        return []

    def _choose_pause_s(self, retry_after_s: float | None) -> float:
        """Double the pause up to `longest_pause_s`, half of it random; it is never shorter than the gateway asks."""
        doubled = self._options.first_pause_s * 2.0 ** min(self._attempts, _MAX_DOUBLINGS)
        pause_s = min(doubled, self._options.longest_pause_s) * self._random.uniform(0.5, 1.0)
        if retry_after_s is None:
            return pause_s
        return max(
            pause_s, min(retry_after_s, _MAX_RETRY_AFTER_S) + self._random.uniform(0, self._options.first_pause_s)
        )

    def _drop_part(self) -> None:
        self._parts.popleft()
        self._attempts = 0
        self._tried_since = None


def _is_result(result: Any) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("validationErrors"), list | None):
        return False
    return result.get("status") == "refused" or isinstance(result.get("eventId"), str)


def _make_outcome(event: EncodedEvent, result: dict[str, Any]) -> Stored | Failure:
    if result.get("status") == "refused":
        return _make_failure(event, str(result.get("code")), str(result.get("message", "")))
    errors = tuple(result.get("validationErrors") or ())
    is_duplicate = result.get("status") == "duplicate"
    return Stored(event.event_id, result["eventId"], bool(result.get("isValid")), is_duplicate, errors)


def _make_failure(event: EncodedEvent, code: str, message: str) -> Failure:
    return Failure(code, message, json.loads(event.body))


def make_unsent_failures(events: Sequence[EncodedEvent]) -> list[Failure]:
    """Make the failures of events that are left when the tracker closes."""
    message = "No time was left to send it, or to hear that it is stored."
    return [_make_failure(event, "unsent", message) for event in events]
