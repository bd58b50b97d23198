"""Sends dead letters that a person wants retried again, each only to the queue of its consumer."""

import logging
from dataclasses import dataclass, field

from services.relay import leader, messages, unsendable
from services.relay.unsendable import Postponed
from tracking.contracts import topology
from tracking.domain.errors import Unavailable
from tracking.infra.postgres import Connection, Pool
from tracking.infra.rabbitmq import MessageTooLarge, Publisher
from tracking.tables import apply_failures, event_batches
from tracking.tables.dead_letters import delivery
from tracking.tables.dead_letters.delivery import EVENTS_ARE_GONE, LetterToSend

_log = logging.getLogger(__name__)
_MAX_LETTERS_PER_RUN = 100


@dataclass(slots=True)
class DeadLetterRetrier:
    """Retries the dead letters of one consumer."""

    consumer: str
    write: Pool
    read: Pool
    publisher: Publisher
    _postponed: Postponed = field(init=False)

    def __post_init__(self) -> None:
        self._postponed = Postponed(f"retry {self.consumer}")

    async def retry(self) -> None:
        """Send up to 100. Raises postgres.TRANSIENT_ERRORS.

        A dead letter that was sent and could not be marked as sent is sent twice; the consumer applies it once. One
        that cannot be sent is open again, with the reason.
        """
        async with self.write.acquire() as connection, connection.transaction():
            if not await leader.try_lead(connection):
                return
            waiting = self._postponed.list_waiting()
            for letter in await delivery.list_to_send(connection, self.consumer, _MAX_LETTERS_PER_RUN, waiting):
                # the consumer counts its attempts anew
                await apply_failures.delete_failures(self.read, self.consumer, letter.batch_id)
                try:
                    error = await self._send(connection, letter)
                except Unavailable as failure:
                    if not unsendable.concerns_every_message(failure):
                        self._postponed.record_failure(letter.id)
                    return
                self._postponed.record_done(letter.id)
                if error is None:
                    await delivery.mark_sent(connection, letter.id)
                else:
                    _log.warning("dead letter %s cannot be sent again: %s", letter.id, error)
                    await delivery.reopen(connection, letter.id, error)

    async def _send(self, connection: Connection, letter: LetterToSend) -> str | None:
        """Send the stored batch, or else the message as it came; return why it cannot be sent."""
        queue = topology.get_queue_names(self.consumer).work
        if letter.is_batch:
            batch = await event_batches.find_batch(connection, letter.batch_id)
            if batch is None:
                return EVENTS_ARE_GONE
            failed = await messages.send_batch(connection, self.publisher, batch, reason="retried", only_to=queue)
            return None if failed is None else failed.error
        name = letter.message_id or letter.id
        try:
            await messages.publish_message(self.publisher, letter.body, name, reason="retried", only_to=queue)
        except MessageTooLarge as error:
            return error.message
        return None
