"""From when on the write database keeps events: older ones are rejected, since they would be dropped at once.

The relay announces the time some seconds before it drops anything. A repeat of a dropped event carries its time, and is
therefore rejected instead of being stored as a new event.
"""

import asyncio
import logging
import time
from datetime import datetime

from tracking.domain.errors import Unavailable
from tracking.infra import postgres
from tracking.tables import retention

_log = logging.getLogger(__name__)
_INTERVAL_S = 2.0
# less than the relay waits between announcing and dropping
_MAX_AGE_S = 8.0


class RetentionLookup:
    """Keeps `raw_since` up to date while `run` runs; None: every time is kept."""

    def __init__(self, pool: postgres.Pool) -> None:
        self._pool = pool
        self.raw_since: datetime | None = None
        self._read_at: float | None = None

    async def ping(self) -> None:
        """Raise Unavailable unless the time was read in the last seconds."""
        if self._read_at is None or time.monotonic() - self._read_at > _MAX_AGE_S:
            raise Unavailable("retention_unknown", "It could not be read how long events are kept.")

    async def run(self) -> None:
        """Read the time again and again until cancelled."""
        while True:
            began = time.monotonic()
            try:
                self.raw_since = await retention.find_raw_since(self._pool)
                self._read_at = began
            except postgres.POSTGRES_ERRORS as error:
                _log.warning("the retention stays as it was read: %s", postgres.describe_error(error))
            await asyncio.sleep(_INTERVAL_S)
