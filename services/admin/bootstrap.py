"""Stores the first admin token, which the environment names, as soon as the write database can be reached.

Once it was revoked it stays revoked, whatever the environment says and however often admin is started. Admin starts all
the same, for its other tokens. An operator without another token names a new one there.
"""

import asyncio
import logging

from services.admin.commands import AdminCommands
from tracking.domain.errors import Unavailable

_log = logging.getLogger(__name__)
_RETRY_DELAY_S = 1.0


class Bootstrap:
    """A background task (`run`) and a readiness check (`ping`) that fails until the token is stored."""

    def __init__(self, commands: AdminCommands, secret: str) -> None:
        self._commands = commands
        self._secret = secret
        self._is_done = False

    async def run(self) -> None:
        """Store the token, and try again every second while the database is unavailable."""
        while not self._is_done:
            try:
                await self._commands.accept_bootstrap_token(self._secret)
                self._is_done = True
            except Unavailable as error:
                _log.warning("the first admin token is not stored yet: %s", error.message)
                await asyncio.sleep(_RETRY_DELAY_S)

    async def ping(self) -> None:
        """Raises Unavailable until the token is stored."""
        if not self._is_done:
            raise Unavailable("bootstrap_pending", "The first admin token is not stored yet.")
