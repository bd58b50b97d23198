"""Names of the exchanges and queues, and the arguments of each queue.

Every process declares them when it connects; declaring what exists with the same arguments changes nothing.
"""

from dataclasses import dataclass
from typing import Any

EVENTS_EXCHANGE = "tracking.events"
DEAD_LETTER_EXCHANGE = "tracking.dead"
CONSUMERS = ("projector", "statistics")

# The broker moves a message to the dead-letter queue that it counts so often. What it counts depends on its version, so
# nothing is decided by it: a consumer counts attempts itself, and the relay sends back what only the broker gave up.
# The limit stays because the arguments of a queue that exists cannot be changed.
DELIVERY_LIMIT = 20
# Past this the broker refuses publishes; the batch then waits in the write database, where there is more space.
MAX_QUEUE_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueueNames:
    """The two queues of a consumer."""

    work: str
    dead_letter: str


def get_queue_names(consumer: str) -> QueueNames:
    """`tracking.<consumer>` and `tracking.<consumer>.dead`."""
    return QueueNames(f"tracking.{consumer}", f"tracking.{consumer}.dead")


def build_work_queue_arguments(consumer: str) -> dict[str, Any]:
    """A quorum queue that refuses when full and moves what it gives up at least once (RabbitMQ >= 3.10)."""
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
    """Dead letters stay until somebody decides: no limit, no expiry."""
    return {"x-queue-type": "quorum"}
