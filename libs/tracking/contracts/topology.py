"""Names of queues and exchanges in the broker, and the arguments of each queue.

Every process declares them when it connects. Declaring again what exists changes nothing.
"""

from dataclasses import dataclass
from typing import Any

EVENTS_EXCHANGE = "tracking.events"
DEAD_LETTER_EXCHANGE = "tracking.dead"
CONSUMERS = ("projector", "statistics")

# A message that was delivered this often without an ack is moved to the dead-letter queue.
DELIVERY_LIMIT = 20
# Beyond this the broker rejects publishes. The batch then waits in the write database, which has more space.
MAX_QUEUE_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueueNames:
    """The two queues of a consumer."""

    work: str
    dead_letter: str


def get_queue_names(consumer: str) -> QueueNames:
    """Return the names `tracking.<consumer>` and `tracking.<consumer>.dead`."""
    return QueueNames(f"tracking.{consumer}", f"tracking.{consumer}.dead")


def build_work_queue_arguments(consumer: str) -> dict[str, Any]:
    """Return the arguments of a quorum queue that rejects publishes when it is full.

    It moves dead letters to their queue at least once (RabbitMQ >= 3.10).
    """
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length-bytes": MAX_QUEUE_BYTES,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
        "x-dead-letter-routing-key": get_queue_names(consumer).dead_letter,
        "x-dead-letter-strategy": "at-least-once",
    }


def build_dead_letter_queue_arguments() -> dict[str, Any]:
    """Return the arguments of a queue without limit and expiry: dead letters stay until somebody decides."""
    return {"x-queue-type": "quorum"}
