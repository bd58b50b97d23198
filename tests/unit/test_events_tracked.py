"""The contract of the one message between services: its schema, its examples, both ends of its code."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import jsonschema
import pytest

from services.projector.project import to_columns
from services.statistics.aggregate import count_events
from tests.support.events import an_event
from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import SystemContext, UnreadableMessage
from tracking.tables.event_columns import READ_ENCODERS

FOLDER = Path(events_tracked.__file__).parent
SCHEMA = json.loads((FOLDER / "events_tracked.v1.schema.json").read_text())
GOOD = sorted((FOLDER / "examples").glob("events_tracked.v1.good.*.json"))
BAD = sorted((FOLDER / "examples").glob("events_tracked.v1.bad.*.json"))
AT = datetime(2025, 12, 24, 10, 30, tzinfo=UTC)


def _name(path: Path) -> str:
    return path.name.split(".")[3]


def test_there_are_examples_of_both_kinds() -> None:
    assert len(GOOD) >= 4
    assert len(BAD) >= 8


@pytest.mark.parametrize("example", GOOD, ids=_name)
def test_a_good_example_meets_the_schema(example: Path) -> None:
    jsonschema.validate(json.loads(example.read_text()), SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize("example", BAD, ids=_name)
def test_a_bad_example_breaks_the_schema(example: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(example.read_text()), SCHEMA, jsonschema.Draft7Validator)


@pytest.mark.parametrize("example", BAD, ids=_name)
def test_a_bad_example_is_unreadable(example: Path) -> None:
    with pytest.raises(UnreadableMessage):
        events_tracked.decode(example.read_bytes())


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"null", b"[]", b'"x"', b"{}"])
def test_what_is_no_message_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        events_tracked.decode(body)


@pytest.mark.parametrize("example", GOOD, ids=_name)
def test_the_projector_takes_every_good_example(example: Path) -> None:
    batch = events_tracked.decode(example.read_bytes())

    projected = to_columns(batch, AT)

    assert projected[list(READ_ENCODERS).index("id")] == batch.ids
    assert {len(column) for column in projected} == {batch.event_count}


@pytest.mark.parametrize("example", GOOD, ids=_name)
def test_statistics_takes_every_good_example(example: Path) -> None:
    batch = events_tracked.decode(example.read_bytes())

    counts = count_events([batch])

    assert sum(map(sum, counts.values())) == batch.event_count
    assert sum(good + bad for *_, good, bad in counts.values()) == sum(batch.is_bot)


def test_what_is_encoded_meets_the_schema_and_comes_back() -> None:
    system = SystemContext(UUID(int=1), "Website", UUID(int=2), "Acme")
    events = [
        an_event(UUID(int=1), UUID(int=10)),
        an_event(
            UUID(int=1),
            UUID(int=11),
            user_id=None,
            original_timestamp=AT,
            message_id="m",
            schema_version=3,
            is_valid=False,
            validation_errors=b'[{"code":"type"}]',
            clock_adjusted=True,
            event_type="identify",
            context=b'{"ip":"203.0.113.0"}',
            is_bot=True,
        ),
    ]

    body = events_tracked.encode(UUID(int=99), AT, [system], events)
    jsonschema.validate(json.loads(body), SCHEMA, jsonschema.Draft7Validator)
    batch = events_tracked.decode(body)
    first, second = (dict(zip(READ_ENCODERS, row, strict=True)) for row in zip(*to_columns(batch, AT), strict=True))

    assert batch.batch_id == UUID(int=99)
    assert first == {
        "partner_system_id": UUID(int=1),
        "id": str(UUID(int=10)),
        "event_name": "page_view",
        "event_timestamp": AT.isoformat(),
        "original_timestamp": None,
        "received_at": AT.isoformat(),
        "user_id": "user_1",
        "anonymous_id": None,
        "message_id": None,
        "event_properties": "{}",
        "schema_version": None,
        "is_valid": True,
        "validation_errors": None,
        "clock_adjusted": False,
        "correlation_id": "c-1",
        "event_type": None,
        "context": None,
        "is_bot": False,
        "partner_id": UUID(int=2),
        "partner_name": "Acme",
        "system_name": "Website",
        "processed_at": AT,
    }
    assert second == first | {
        "id": str(UUID(int=11)),
        "user_id": None,
        "original_timestamp": AT.isoformat(),
        "message_id": "m",
        "schema_version": 3,
        "is_valid": False,
        "validation_errors": '[{"code":"type"}]',
        "clock_adjusted": True,
        "event_type": "identify",
        "context": '{"ip":"203.0.113.0"}',
        "is_bot": True,
    }


def test_a_message_has_its_bytes() -> None:
    """Messages in queues, and consumers that wait for them, are older than this code."""
    systems = [SystemContext(UUID(int=n), f"Site {n}", UUID(int=9), "Acmé") for n in (1, 2)]
    events = [
        an_event(UUID(int=2), UUID(int=10), sent_at=AT, anonymous_id="a", validation_errors=b"[]", is_valid=False),
        an_event(UUID(int=1), UUID(int=11), user_id=None, schema_version=3, context=b'{"x":"\xc3\xa9"}'),
    ]

    body = events_tracked.encode(UUID(int=99), AT, systems, events)

    assert body.decode() == (
        '{"batchId":"00000000-0000-0000-0000-000000000063","createdAt":"2025-12-24T10:30:00+00:00","systems":['
        '{"partnerSystemId":"00000000-0000-0000-0000-000000000001","systemName":"Site 1",'
        '"partnerId":"00000000-0000-0000-0000-000000000009","partnerName":"Acmé"},'
        '{"partnerSystemId":"00000000-0000-0000-0000-000000000002","systemName":"Site 2",'
        '"partnerId":"00000000-0000-0000-0000-000000000009","partnerName":"Acmé"}],"events":{"system":[1,0],'
        '"id":["00000000-0000-0000-0000-00000000000a","00000000-0000-0000-0000-00000000000b"],'
        '"eventName":["page_view","page_view"],'
        '"eventTimestamp":["2025-12-24T10:30:00+00:00","2025-12-24T10:30:00+00:00"],'
        '"receivedAt":["2025-12-24T10:30:00+00:00","2025-12-24T10:30:00+00:00"],'
        '"eventPropertiesJson":["{}","{}"],"isValid":[false,true],"correlationId":["c-1","c-1"],'
        '"userId":["user_1",null],"anonymousId":["a",null],"schemaVersion":[null,3],'
        '"validationErrorsJson":["[]",null],"contextJson":[null,"{\\"x\\":\\"é\\"}"]}}'
    )


def test_columns_of_unequal_length_are_unreadable() -> None:
    message = json.loads(GOOD[0].read_bytes())
    message["events"]["eventName"].append("one too many")

    with pytest.raises(UnreadableMessage, match="eventName"):
        events_tracked.decode(json.dumps(message).encode())
