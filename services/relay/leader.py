"""Lets one relay do a kind of work at a time: the one that holds its advisory lock."""

from tracking.infra.postgres import RELAY_LOCK, Connection

_TRY_LOCK = "select pg_try_advisory_xact_lock($1)"


async def try_lead(connection: Connection, lock: int = RELAY_LOCK) -> bool:
    """Return whether this relay is the one that works, until the transaction ends.

    All loops of all relays that publish take the same lock: a second relay waits in reserve instead of publishing
    everything twice. Partitions have a lock of their own, so that their upkeep does not hold up publishing.
    """
    return bool(await connection.fetchval(_TRY_LOCK, lock))
