"""Ends commits of gateways that stopped in the middle of a COPY, for which PostgreSQL itself has no time limit.

While PostgreSQL reads the rows of a COPY, it heeds neither `statement_timeout` nor the limits for transactions (its
source, ProcessClientReadInterrupt). A gateway sends these rows at once, so if they do not come within seconds, it is
frozen. Its session would keep a connection, and locks that stop the upkeep of partitions, for as long as it is.
"""

import asyncio
import logging

from tracking.infra import postgres
from tracking.infra.postgres import Pool

_log = logging.getLogger(__name__)
_INTERVAL_S = 5

# A role may end its own sessions.
_SELECT_AND_TERMINATE_STALLED = """
select count(pg_terminate_backend(pid))
  from pg_stat_activity
 where datname = current_database()
   and usename = current_user
   and application_name = $1
   and state = 'active'
   and wait_event = 'ClientRead'
   and query_start < clock_timestamp() - interval '3 seconds'
"""


class StalledCopies:
    """`run` looks for stalled sessions of all gateways, those with this `application_name`."""

    def __init__(self, pool: Pool, application_name: str) -> None:
        self._pool = pool
        self._application_name = application_name

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                ended = await self._pool.fetchval(_SELECT_AND_TERMINATE_STALLED, self._application_name)
            except postgres.POSTGRES_ERRORS as error:
                _log.info("cannot look for stalled commits: %s", postgres.describe_error(error))
                continue
            if ended:
                _log.warning("ended %d sessions of gateways that had stopped in the middle of a commit", ended)
