"""Sends dead letters that a person wants retried again, each only to the queue of its consumer."""

import logging
from dataclasses import dataclass

from services.relay import leader, messages
from tracking.contracts import topology
from tracking.infra.postgres import Connection, Pool
from tracking.infra.rabbitmq import Publisher
from tracking.tables import event_batches
from tracking.tables.dead_letters import delivery
from tracking.tables.dead_letters.delivery import EVENTS_ARE_GONE, LetterToSend

_log = logging.getLogger(__name__)
_MAX_LETTERS_PER_RUN = 100


@dataclass(slots=True)
class DeadLetterRetrier:
    """Retries the dead letters of one consumer."""

    consumer: str
    write: Pool
    publisher: Publisher

    async def retry(self) -> None:
        """Send up to 100. Raises postgres.TRANSIENT_ERRORS.

        A dead letter that was sent and could not be marked as sent is sent twice; the consumer applies it once.
        """
        async with self.write.acquire() as connection, connection.transaction():
            if not await leader.try_lead(connection):
                return
            for letter in await delivery.list_to_send(connection, self.consumer, _MAX_LETTERS_PER_RUN):
                body = await self._find_body(connection, letter)
                if body is None:
                    continue
                name = letter.batch_id or letter.message_id or letter.id
                queue = topology.get_queue_names(self.consumer).work
                if not await messages.publish_message(self.publisher, body, name, reason="retried", only_to=queue):
                    return
                await delivery.mark_sent(connection, letter.id)

    async def _find_body(self, connection: Connection, letter: LetterToSend) -> bytes | None:
        """Return the stored batch, or else the message as it came.

        If the batch no longer exists, the dead letter is open again and the result is None.
        """
        if not letter.is_batch:
            return letter.body
        batch = await event_batches.find_batch(connection, letter.batch_id)
        body = None if batch is None else await messages.build_message(connection, batch)
        if body is not None:
            return body
        _log.warning("batch %s cannot be made again: its events are gone", letter.batch_id)
        await delivery.reopen(connection, letter.id, EVENTS_ARE_GONE)
        return None
