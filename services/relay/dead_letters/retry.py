"""Sends again the dead letters that somebody wants retried, each to the queue of its consumer alone."""

import logging
from dataclasses import dataclass
from typing import Any

from services.relay import leader, messages
from tracking.contracts import topology
from tracking.infra.postgres import Connection, Pool
from tracking.infra.rabbitmq import Publisher
from tracking.tables import event_batches

_log = logging.getLogger(__name__)
_MAX_LETTERS_PER_RUN = 100

# A discard that comes meanwhile waits for the row.
_SELECT_TO_SEND = """
select id, batch_id, is_batch, message_id, body
  from write.dead_letters
 where consumer = $1
   and state = 'retried'
   and sent_at is null
 order by id
 limit $2
   for no key update
"""

_UPDATE_SENT = """
update write.dead_letters
   set sent_at = now()
 where id = $1
"""

_UPDATE_OPEN = """
update write.dead_letters
   set state = 'open', error = $2
 where id = $1
"""


@dataclass(slots=True)
class DeadLetterRetrier:
    """Of one consumer."""

    consumer: str
    write: Pool
    publisher: Publisher

    async def retry(self) -> None:
        """Send up to 100. Raises postgres.TRANSIENT; sent and not noted, it is sent twice, and applied once."""
        async with self.write.acquire() as connection, connection.transaction():
            if not await leader.try_lead(connection):
                return
            for letter in await connection.fetch(_SELECT_TO_SEND, self.consumer, _MAX_LETTERS_PER_RUN):
                body = await self._body(connection, letter)
                if body is None:
                    continue
                name = letter["batch_id"] or letter["message_id"] or letter["id"]
                queue = topology.get_queue_names(self.consumer).work
                if not await messages.publish_message(self.publisher, body, name, reason="retried", only_to=queue):
                    return
                await connection.execute(_UPDATE_SENT, letter["id"])

    async def _body(self, connection: Connection, letter: Any) -> bytes | None:
        """The batch as it is stored, else the message as it came; None, and open again, if the batch is no more."""
        if not letter["is_batch"]:
            return bytes(letter["body"])
        batch = await event_batches.find_batch(connection, letter["batch_id"])
        body = None if batch is None else await messages.build_message(connection, batch)
        if body is not None:
            return body
        _log.warning("batch %s cannot be made again: its events are gone", letter["batch_id"])
        await connection.execute(_UPDATE_OPEN, letter["id"], "its events are no longer in the write database")
        return None
