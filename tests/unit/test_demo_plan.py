"""The demo expects of each of its events what the gateway decides, whatever the seed."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import orjson

from deploy.demo.events import plan
from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.decode import decode_event
from services.gateway.events.rejection import Rejection
from services.gateway.events.structure_index import StructureIndex
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.timestamps import to_unix_ms

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
KEY = ApiKeyEntry(UUID(int=1), None, None, UUID(int=7), "s", True, UUID(int=2), "p", True)
NAMES = {
    "event_name": "eventName",
    "user_id": "userId",
    "anonymous_id": "anonymousId",
    "event_id": "eventId",
    "timestamp": "eventTimestamp",
    "properties": "eventProperties",
}


def test_what_is_planned_as_no_event_is_rejected_and_everything_else_is_stored() -> None:
    sender = IngestContext(KEY, NOW, to_unix_ms(NOW), "c-1", 65_536)
    wrong, kinds = [], Counter[str]()
    for event in plan(5_000, 1, NOW).events:
        envelope = decode_event(orjson.dumps({NAMES[name]: value for name, value in event.arguments.items()}))
        decided = decide(envelope, sender, StructureIndex(), 1)
        kinds[event.expected_result] += 1
        if isinstance(decided, Rejection) is not (event.expected_result == "refused"):
            wrong.append((event, decided))

    assert wrong == []
    assert kinds["refused"] == 25
