"""Circuit breaker: after a failure a dependency is not asked again for a moment.

Without it, every request would wait for the timeout of a dependency that is away. For dependencies whose failure has a
fallback, such as Redis, whose data can be read from PostgreSQL.
"""

import logging
import time

from tracking.infra.postgres import describe_error

_log = logging.getLogger(__name__)
_PAUSE_S = 1.0


class CircuitBreaker:
    """Ask `is_open` before each use of the dependency, and call `record_failure` after a failed one."""

    def __init__(self, consequence: str, *, pause_s: float = _PAUSE_S) -> None:
        """`consequence` is logged at each failure: which dependency does not answer, and what is done instead."""
        self._consequence = consequence
        self._pause_s = pause_s
        self._closed_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last failure was a moment ago, so that the fallback is to be used."""
        return time.monotonic() < self._closed_at

    def record_failure(self, error: BaseException) -> None:
        """Use the fallback from now on, for a moment."""
        self._closed_at = time.monotonic() + self._pause_s
        _log.warning("%s: %s", self._consequence, describe_error(error))
