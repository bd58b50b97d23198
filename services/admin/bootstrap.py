"""The first admin token comes from the environment; it is stored as soon as the database can be reached."""

import asyncio
import logging

from services.admin.commands import AdminCommands
from tracking.domain.errors import Unavailable

_log = logging.getLogger(__name__)
_RETRY_DELAY_S = 1.0


class Bootstrap:
    """`run` until it is done; not ready before."""

    def __init__(self, administration: AdminCommands, secret: str) -> None:
        self._administration = administration
        self._secret = secret
        self._is_done = False

    async def run(self) -> None:
        """Store the token, again and again while the database is away."""
        while not self._is_done:
            try:
                await self._administration.accept_bootstrap_token(self._secret)
                self._is_done = True
            except Unavailable as error:
                _log.warning("the first admin token is not stored yet: %s", error.message)
                await asyncio.sleep(_RETRY_DELAY_S)

    async def ping(self) -> None:
        """Raises Unavailable until the token is good."""
        if not self._is_done:
            raise Unavailable("bootstrap_pending", "The first admin token is not stored yet.")
