"""One relay works at a time: the one that holds the advisory lock."""

from tracking.infra.postgres import Connection

# One key for both loops of all relays: a second relay waits in reserve instead of publishing everything twice.
RELAY_LOCK = 7_236_401

_TRY_LOCK = "select pg_try_advisory_xact_lock($1)"


async def try_lead(connection: Connection) -> bool:
    """Whether this relay is the one that works; for the length of the transaction."""
    return bool(await connection.fetchval(_TRY_LOCK, RELAY_LOCK))
