"""Carries out decisions about dead letters: retry and discard."""

from typing import Any
from uuid import UUID

from tracking.domain.dead_letter import require_discard, require_retry
from tracking.infra.postgres import Connection
from tracking.tables.dead_letters.queries import make_not_found

_LOCK_DEAD_LETTER = """
select state, is_batch or octet_length(body) = body_bytes as can_be_sent
  from write.dead_letters
 where id = $1
   for update
"""

_UPDATE_RETRIED = """
update write.dead_letters
   set state = 'retried', decided_at = now(), sent_at = null
 where id = $1
"""


async def mark_for_retry(connection: Connection, letter_id: UUID) -> None:
    """Mark a dead letter for the relay to send again, inside a transaction.

    One that was discarded or sent before may be retried too, because the inbox applies it once. Raises NotFound, and
    Conflict as `require_retry`.
    """
    found = await _lock(connection, letter_id)
    require_retry(letter_id, found["state"], can_be_sent=found["can_be_sent"])
    await connection.execute(_UPDATE_RETRIED, letter_id)


_UPDATE_DISCARDED = """
update write.dead_letters
   set state = 'discarded', decided_at = now()
 where id = $1
   and state <> 'discarded'
"""


async def mark_discarded(connection: Connection, letter_id: UUID) -> None:
    """Mark a dead letter as never to be sent to its consumer again, inside a transaction.

    Raises NotFound, and Conflict as `require_discard`.
    """
    found = await _lock(connection, letter_id)
    require_discard(letter_id, found["state"])
    await connection.execute(_UPDATE_DISCARDED, letter_id)


async def _lock(connection: Connection, letter_id: UUID) -> Any:
    found = await connection.fetchrow(_LOCK_DEAD_LETTER, letter_id)
    if found is None:
        raise make_not_found(letter_id)
    return found
