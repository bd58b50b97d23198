"""Units of work for commands, and connections for queries. A unit of work is one transaction with its domain events."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from services.admin.outbox import Outbox, insert_domain_events
from tracking.contracts.invalidation import CREDENTIAL_TRUST_S
from tracking.domain.aggregate import Aggregate
from tracking.domain.errors import Unavailable
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms
from tracking.infra import postgres
from tracking.infra.postgres import Connection, Pool

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = 2


class UnitOfWork:
    """One transaction. The domain events that are recorded in it are delivered once it is committed."""

    def __init__(self, connection: Connection, new_id: Callable[[datetime], UUID]) -> None:
        self.connection = connection
        self.event_ids: list[UUID] = []
        self._new_id = new_id

    async def record_events(self, *aggregates: Aggregate) -> None:
        """Insert the domain events that these aggregates have collected, in this transaction."""
        for aggregate in aggregates:
            self.event_ids += await insert_domain_events(self.connection, aggregate.pull_events(), self._new_id)


class UnitOfWorkFactory:
    """Begins units of work on the write database."""

    def __init__(self, pool: Pool, outbox: Outbox, new_bits: Callable[[int], int], *, timeout_s: float) -> None:
        self._pool = pool
        self._outbox = outbox
        self._new_bits = new_bits
        self._timeout_s = timeout_s

    def new_id(self, now: datetime) -> UUID:
        """Make a UUIDv7, so that rows are stored in the order in which they were made."""
        return make_uuid7(to_unix_ms(now), self._new_bits(74))

    @asynccontextmanager
    async def begin(self, *, ends_access: bool = False) -> AsyncIterator[UnitOfWork]:
        """Begin a unit of work: commit at the end of the block, then deliver its domain events.

        With `ends_access` it also waits until no process can rely on what it read before the commit. Raises
        Unavailable if the database cannot be reached.
        """
        try:
            async with self._pool.acquire(timeout=self._timeout_s) as connection, connection.transaction():
                unit_of_work = UnitOfWork(connection, self.new_id)
                yield unit_of_work
        except postgres.TRANSIENT_ERRORS as error:
            _log.warning("a change failed: %s", postgres.describe_error(error))
            raise Unavailable(
                "database_unavailable", "The change could not be made; try again.", _RETRY_AFTER_S
            ) from error
        if ends_access:
            await asyncio.gather(self._outbox.deliver(unit_of_work.event_ids), asyncio.sleep(CREDENTIAL_TRUST_S))
        else:
            await self._outbox.deliver(unit_of_work.event_ids)

    @asynccontextmanager
    async def read_connection(self) -> AsyncIterator[Connection]:
        """Lend a connection for queries. Raises Unavailable if the database cannot be reached."""
        try:
            async with self._pool.acquire(timeout=self._timeout_s) as connection:
                yield connection
        except postgres.TRANSIENT_ERRORS as error:
            raise Unavailable(
                "database_unavailable", "The database cannot be read; try again.", _RETRY_AFTER_S
            ) from error
