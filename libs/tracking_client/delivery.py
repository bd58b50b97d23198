"""What to do with one batch until each of its events has ended: post, pause, post again, in halves if need be. No IO.

An event counts as stored only by a 202 that names it. Anything that leaves a doubt is sent again, which is harmless.
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
_OF_THE_BODY = frozenset({"malformed_json", "malformed_encoding"})
_MAX_RETRY_AFTER_S = 300.0
# a gateway takes what inflates up to 100 times for an attack
_MAX_RATIO = 50
_MAX_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class GatewayResponse:
    """What came back: `status` 0 is no answer at all, `payload` the body's JSON or None."""

    status: int
    payload: Any = None
    retry_after_s: float | None = None
    trouble: str = ""
    """For a person, when there is no message in the payload."""

    def results(self, count: int) -> list[dict[str, Any]] | None:
        """One for each of `count` events; None if this acknowledges nothing."""
        if self.status != 202 or not isinstance(self.payload, dict):
            return None
        results = self.payload.get("results")
        is_whole = isinstance(results, list) and len(results) == count and all(map(_is_result, results))
        return results if is_whole else None

    @property
    def code(self) -> str:
        """The gateway's, or `http_<status>`."""
        return str(self.payload["code"]) if self._is_error_of_ours else f"http_{self.status}"

    @property
    def message(self) -> str:
        """Why not."""
        return str(self.payload.get("message", "")) if self._is_error_of_ours else self.trouble

    @property
    def _is_error_of_ours(self) -> bool:
        return isinstance(self.payload, dict) and "code" in self.payload

    @property
    def is_final(self) -> bool:
        """Whether the same request would get the same answer: 3xx and 4xx. A 200 is no gateway's, and may pass."""
        return 300 <= self.status < 500 and self.status not in _RETRYABLE_STATUSES


@dataclass(frozen=True, slots=True)
class Post:
    """Send these; then `Delivery.handle_response`."""

    events: Sequence[EncodedEvent]

    def body(self, sent_at: datetime, gzip_from_bytes: int) -> tuple[bytes, str | None]:
        """The bytes to send and their Content-Encoding."""
        head = f'{{"sentAt":"{sent_at.isoformat().replace("+00:00", "Z")}","events":['.encode()
        plain = head + b",".join(event.body for event in self.events) + b"]}"
        if len(plain) < gzip_from_bytes:
            return plain, None
        packed = gzip.compress(plain, compresslevel=6, mtime=0)
        return (packed, "gzip") if len(packed) * _MAX_RATIO > len(plain) else (plain, None)


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, then ask for the next step."""

    seconds: float


class Delivery:
    """One batch. Times are readings of `time.monotonic`."""

    def __init__(self, events: Sequence[EncodedEvent], options: Options, random: Random) -> None:
        self._options = options
        self._random = random
        self._parts: deque[Sequence[EncodedEvent]] = deque([events])
        self._attempts = 0
        self._tried_since: float | None = None
        self._pause_s: float | None = None

    def step(self, now: float) -> Post | Pause | None:
        """What to do next; None when every event has ended."""
        if not self._parts:
            return None
        if self._pause_s is not None:
            pause, self._pause_s = Pause(self._pause_s), None
            return pause
        if self._tried_since is None:
            self._tried_since = now
        return Post(self._parts[0])

    def handle_response(self, answer: GatewayResponse, now: float) -> list[Stored | Failure]:
        """What has become of events by this answer to the last Post."""
        if not self._parts:
            return []  # withdrawn meanwhile
        events = self._parts[0]
        results = answer.results(len(events))
        if results is not None:
            self._next_part()
            return [_outcome(event, result) for event, result in zip(events, results, strict=True)]
        if len(events) > 1 and (answer.status == 413 or (answer.status == 400 and answer.code in _OF_THE_BODY)):
            half = len(events) // 2
            self._next_part()
            self._parts.extendleft((events[half:], events[:half]))
            return []
        if answer.is_final:
            self._next_part()
            return [_failure(event, answer.code, answer.message) for event in events]
        return self._again(events, answer, now)

    def withdraw(self) -> list[EncodedEvent]:
        """Everything that has not ended; there are no further steps."""
        events = [event for part in self._parts for event in part]
        self._parts.clear()
        return events

    def _again(self, events: Sequence[EncodedEvent], answer: GatewayResponse, now: float) -> list[Stored | Failure]:
        if self._tried_since is not None and now - self._tried_since >= self._options.retry_for_s:
            self._next_part()
            message = f"Tried for {self._options.retry_for_s:g} s, at last: {answer.code}: {answer.message}"
            return [_failure(event, "not_acknowledged", message) for event in events]
        self._pause_s = self._next_pause_s(answer.retry_after_s)
        self._attempts += 1
        return []

    def _next_pause_s(self, wish_s: float | None) -> float:
        """Doubling up to `longest_pause_s`, half of it left to chance; never less than the gateway asks for."""
        doubled = self._options.first_pause_s * 2.0 ** min(self._attempts, _MAX_DOUBLINGS)
        pause_s = min(doubled, self._options.longest_pause_s) * self._random.uniform(0.5, 1.0)
        if wish_s is None:
            return pause_s
        return max(pause_s, min(wish_s, _MAX_RETRY_AFTER_S) + self._random.uniform(0, self._options.first_pause_s))

    def _next_part(self) -> None:
        self._parts.popleft()
        self._attempts = 0
        self._tried_since = None


def _is_result(result: Any) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("validationErrors"), list | None):
        return False
    return result.get("status") == "refused" or isinstance(result.get("eventId"), str)


def _outcome(event: EncodedEvent, result: dict[str, Any]) -> Stored | Failure:
    if result.get("status") == "refused":
        return _failure(event, str(result.get("code")), str(result.get("message", "")))
    errors = tuple(result.get("validationErrors") or ())
    is_duplicate = result.get("status") == "duplicate"
    return Stored(event.event_id, result["eventId"], bool(result.get("isValid")), is_duplicate, errors)


def _failure(event: EncodedEvent, code: str, message: str) -> Failure:
    return Failure(code, message, json.loads(event.body))


def make_unsent_failures(events: Sequence[EncodedEvent]) -> list[Failure]:
    """For what is left at the end."""
    message = "No time was left to send it, or to hear that it is stored."
    return [_failure(event, "unsent", message) for event in events]
