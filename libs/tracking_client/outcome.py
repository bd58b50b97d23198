"""The ways in which an event can end, and the callbacks that are called then."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

_log = logging.getLogger("tracking_client")
_LOG_INTERVAL_S = 1.0


class QueueFull(Exception):
    """The event was not taken; only with `when_full="raise"`."""


@dataclass(frozen=True, slots=True)
class Stored:
    """On the gateway's disk. `validation_errors` are `{code, path, schemaPath, message}`; such an event is kept too."""

    event_id: str
    """As `track` returned it; queries call it `messageId`."""
    stored_id: str
    """The gateway's own; queries call it `eventId`."""
    is_valid: bool
    is_duplicate: bool
    """The gateway had it already: from an earlier attempt, or because it was sent twice with one id."""
    validation_errors: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Not stored, and not tried again. `event` is the envelope as it was, or would have been, sent.

    Of the tracker itself: `queue_full`, `event_too_large`, `not_json`, `closed` (all within `track`), `unsent` (no time
    left at the end) and `not_acknowledged` (no response for `retry_for_s`); these last two may be stored all the same.
    Any other `code` is the gateway's, or `http_<status>` of something in between.
    """

    code: str
    message: str
    event: dict[str, Any]


@dataclass(slots=True)
class Counts:
    """Sums since the tracker was made, or since the process was forked."""

    stored: int = 0
    """Includes duplicates."""
    duplicates: int = 0
    invalid: int = 0
    """Stored, but they break their schema."""
    retries: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    """By code."""


OnStored = Callable[[Stored], None]
OnError = Callable[[Failure], None]


class OutcomeReporter:
    """Counts outcomes and calls the callbacks. Errors in a callback are logged, so that they do not end the sending."""

    def __init__(self, on_stored: OnStored | None, on_error: OnError | None) -> None:
        self._on_stored = on_stored
        self._on_error = on_error or FailureLog()
        self.reset()

    def reset(self) -> None:
        """Start anew in a forked child, where a thread that is gone may hold the lock for ever."""
        self._lock = threading.RLock()
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        """A copy of the counts."""
        with self._lock:
            return replace(self._counts, failures=dict(self._counts.failures))

    def count_retry(self) -> None:
        """Count an attempt that must be repeated."""
        with self._lock:
            self._counts.retries += 1

    def report(self, outcomes: Iterable[Stored | Failure]) -> None:
        """Count each outcome and call its callback, in order."""
        for outcome in outcomes:
            self._count(outcome)
            try:
                if isinstance(outcome, Failure):
                    self._on_error(outcome)
                elif self._on_stored is not None:
                    self._on_stored(outcome)
            except Exception:
                _log.exception("a callback failed")

    def _count(self, outcome: Stored | Failure) -> None:
        with self._lock:
            counts = self._counts
            if isinstance(outcome, Failure):
                counts.failures[outcome.code] = counts.failures.get(outcome.code, 0) + 1
            else:
                counts.stored += 1
                counts.duplicates += outcome.is_duplicate
                counts.invalid += not outcome.is_valid


class FailureLog:
    """The default of `on_error`: logs a warning, at most one a second for each code."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._silenced: dict[str, int] = {}

    def __call__(self, failure: Failure) -> None:
        now = time.monotonic()
        if now - self._last.get(failure.code, -_LOG_INTERVAL_S) < _LOG_INTERVAL_S:
            self._silenced[failure.code] = self._silenced.get(failure.code, 0) + 1
            return
        self._last[failure.code] = now
        more = self._silenced.pop(failure.code, 0)
        since = f" ({more} more of these since the last warning)" if more else ""
        name = failure.event.get("eventName")
        _log.warning("event %r was not stored: %s: %s%s", name, failure.code, failure.message, since)
