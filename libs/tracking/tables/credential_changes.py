"""Keeps cached credentials no older than the truth, with the numbered changes in `write.credential_changes`.

Each change of an API key, an access token, a partner system or a partner has a number, its *generation*. Triggers
write it in the transaction of the change, and numbers rise in the order of the commits. A process that caches
credentials reads the new changes several times a second and drops the entries that they name. What it has in memory
or finds in Redis is used only while the last such reading is less than `CREDENTIAL_TRUST_S` old. So it does not matter
whether an invalidation was lost, Redis forgot a write, or the network to it is silent.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from tracking.contracts.invalidation import CREDENTIAL_TRUST_S
from tracking.domain.errors import Unavailable
from tracking.infra import postgres
from tracking.infra.postgres import DedicatedConnection

_log = logging.getLogger(__name__)
_POLL_INTERVAL_S = 0.25
_POLL_TIMEOUT_S = 1.0
_MAX_NAMES = 50_000
_MAX_WAITING = 1_000
_NOTHING = -1

# The first row is the change that was read last, if the table still has it and if it is the same change.
_SELECT_CHANGES = """
select generation, changed_at, key_sha256, token_sha256, partner_system_id, partner_id
  from write.credential_changes
 where generation >= least($1, (select max(generation) from write.credential_changes))
 order by generation
"""

Names = Collection[str | UUID]
"""What a change names: the SHA-256 of a key or token in hexadecimal, or the id of a partner system or a partner."""


class CredentialChanges:
    """Knows up to which change this process is informed, and until when that may be relied upon."""

    def __init__(self, url: str, *, service: str) -> None:
        """`url` is that of the write database, in the role of the service."""
        self._url = url
        self._service = service
        self._listeners: list[Callable[[Names | None], None]] = []
        self._connection: DedicatedConnection | None = None
        self._last: tuple[int, datetime] | None = None
        self._floor = 0
        self._generation = _NOTHING
        self._changed: dict[str | UUID, int] = {}
        self._confirmed_at = 0.0
        self._confirmed = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._waiting = 0
        # By time.monotonic. Callers that cannot afford a call for each request only compare it.
        self.trusted_until = 0.0
        self.is_away = True
        """Whether the last reading failed, or there was none yet."""

    def add_listener(self, listener: Callable[[Names | None], None]) -> None:
        """Have `listener` called with the names of changed credentials; None means that anything may have changed."""
        self._listeners.append(listener)

    def is_current(self, generation: int, names: Names) -> bool:
        """Whether an entry that has all changes up to `generation` lacks none that is known.

        `names` are all that a change of this entry may name.
        """
        if not self._floor <= generation <= self._generation:
            return False
        return all(self._changed.get(name, _NOTHING) <= generation for name in names)

    async def wait_until_current(self, timeout_s: float) -> None:
        """Return when the changes up to this call are known: at once, as a rule.

        Raises Unavailable if the write database does not answer within `timeout_s`, or if too many wait for it.
        """
        asked_at = time.monotonic()
        if asked_at < self.trusted_until:
            return
        unknown = Unavailable("database_unavailable", "Credentials cannot be checked now; try again.", 2)
        if self._waiting >= _MAX_WAITING:
            raise unknown
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout_s):
                while self._confirmed_at < asked_at:
                    self._is_wanted.set()
                    await self._confirmed.wait()
        except TimeoutError as error:
            raise unknown from error
        finally:
            self._waiting -= 1

    async def run(self) -> None:
        """Read the changes several times a second, until cancelled."""
        try:
            while True:
                self._is_wanted.clear()
                if await self.poll():
                    await self._sleep_unless_wanted()
                else:
                    await asyncio.sleep(_POLL_INTERVAL_S)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection. The next reading opens another."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def poll(self) -> bool:
        """Read the changes once; return whether it succeeded."""
        try:
            async with asyncio.timeout(_POLL_TIMEOUT_S):
                connection = self._connection or await self._connect()
                asked_at = time.monotonic()
                rows = await self._read(connection)
        except postgres.POSTGRES_ERRORS as error:
            self.close()
            if not self.is_away:
                _log.warning("changes of credentials cannot be read: %s", postgres.describe_error(error))
            self.is_away = True
            return False
        self.apply_reading(rows, asked_at)
        return True

    def apply_reading(self, rows: Sequence[Any], asked_at: float) -> None:
        """Take note of rows of `write.credential_changes` that were asked for at `asked_at`, by time.monotonic."""
        self._apply(rows)
        self.is_away = False
        self._confirmed_at = asked_at
        self.trusted_until = asked_at + CREDENTIAL_TRUST_S
        self._confirmed.set()
        self._confirmed = asyncio.Event()

    async def _sleep_unless_wanted(self) -> None:
        try:
            async with asyncio.timeout(_POLL_INTERVAL_S):
                await self._is_wanted.wait()
        except TimeoutError:
            return

    async def _connect(self) -> DedicatedConnection:
        self._connection = await asyncpg.connect(
            self._url,
            timeout=_POLL_TIMEOUT_S,
            server_settings={"application_name": f"tracking-{self._service}-changes", "timezone": "UTC"},
        )
        return self._connection

    async def _read(self, connection: DedicatedConnection) -> Sequence[Any]:
        """The changes since the last reading, without it; or all that are kept, with None as `_last`."""
        if self._last is not None:
            rows = await connection.fetch(_SELECT_CHANGES, self._last[0])
            if rows and (rows[0]["generation"], rows[0]["changed_at"]) == self._last:
                return rows[1:]
            self._last = None
        return await connection.fetch(_SELECT_CHANGES, 0)

    def _apply(self, rows: Sequence[Any]) -> None:
        is_gap = self._last is None
        if is_gap:
            # Changes were missed, or the database was set back. Entries with later numbers than it has are no truth.
            self._floor = rows[0]["generation"] if rows else 0
            if rows and rows[-1]["generation"] < self._generation:
                self._floor = self._generation + 1
            self._changed.clear()
            self._generation = _NOTHING
        names: set[str | UUID] = set()
        for row in rows:
            named = _list_names(row)
            names.update(named)
            self._changed.update(dict.fromkeys(named, row["generation"]))
            self._last = (row["generation"], row["changed_at"])
            self._generation = row["generation"]
        if is_gap or names:
            for listener in self._listeners:
                listener(None if is_gap else names)
        if len(self._changed) > _MAX_NAMES:
            self._last = None


def _list_names(row: Any) -> list[str | UUID]:
    digests = [row[column].hex() for column in ("key_sha256", "token_sha256") if row[column] is not None]
    ids = [row[column] for column in ("partner_system_id", "partner_id") if row[column] is not None]
    return [*digests, *ids]
