"""Lets one relay work at a time: the one that holds the advisory lock."""

from tracking.infra.postgres import RELAY_LOCK, Connection

_TRY_LOCK = "select pg_try_advisory_xact_lock($1)"


async def try_lead(connection: Connection) -> bool:
    """Return whether this relay is the one that works, until the transaction ends.

    Both loops of all relays take the same lock: a second relay waits in reserve instead of publishing everything twice.
    """
    return bool(await connection.fetchval(_TRY_LOCK, RELAY_LOCK))
