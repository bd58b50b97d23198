"""The contract of a message that contains a part of a batch: its schema, its examples, both ends of its code."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from referencing import Registry, Resource

from services.projector.project import to_columns
from services.statistics.aggregate import count_events
from tests.support.events import an_event
from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import BatchPart, SystemContext, UnreadableMessage

FOLDER = Path(events_tracked.__file__).parent
WHOLE_SCHEMA = json.loads((FOLDER / "events_tracked.v1.schema.json").read_text())
SCHEMA = json.loads((FOLDER / "events_tracked_part.v1.schema.json").read_text())
GOOD = sorted((FOLDER / "examples").glob("events_tracked_part.v1.good.*.json"))
BAD = sorted((FOLDER / "examples").glob("events_tracked_part.v1.bad.*.json"))
AT = datetime(2025, 12, 24, 10, 30, tzinfo=UTC)
SYSTEM = SystemContext(UUID(int=1), "Website", UUID(int=2), "Acme")
EVENTS = [an_event(UUID(int=1), UUID(int=n)) for n in range(4)]


def validate(message: Any) -> None:
    """Raise jsonschema.ValidationError if the message breaks the schema."""
    registry: Registry[Any] = Registry().with_resource(
        "events_tracked.v1.schema.json", Resource.from_contents(WHOLE_SCHEMA)
    )
    jsonschema.Draft7Validator(SCHEMA, registry=registry).validate(message)


def _name(path: Path) -> str:
    return path.name.split(".")[3]


def test_there_are_examples_of_both_kinds() -> None:
    assert len(GOOD) >= 2
    assert len(BAD) >= 5


@pytest.mark.parametrize("example", GOOD, ids=_name)
def test_a_good_example_meets_the_schema_and_every_consumer_takes_it(example: Path) -> None:
    validate(json.loads(example.read_bytes()))
    batch = events_tracked.decode(example.read_bytes())

    assert batch.part is not None
    assert len(batch.part.positions) == batch.event_count
    assert {len(column) for column in to_columns(batch, AT)} == {batch.event_count}
    assert sum(map(sum, count_events([batch]).values())) == batch.event_count


@pytest.mark.parametrize("example", BAD, ids=_name)
def test_a_bad_example_breaks_the_schema_and_is_unreadable(example: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate(json.loads(example.read_bytes()))
    with pytest.raises(UnreadableMessage):
        events_tracked.decode(example.read_bytes())


@pytest.mark.parametrize("example", GOOD, ids=_name)
def test_a_part_is_unreadable_for_a_reader_that_knows_only_whole_batches(example: Path) -> None:
    with pytest.raises(jsonschema.ValidationError, match="'batchId' is a required property"):
        jsonschema.validate(json.loads(example.read_bytes()), WHOLE_SCHEMA, jsonschema.Draft7Validator)


def test_what_is_encoded_meets_the_schema_and_comes_back() -> None:
    part = BatchPart(first=10, past=20, of=25, positions=[10, 11, 15, 19])

    body = events_tracked.encode(UUID(int=99), AT, [SYSTEM], EVENTS, part)

    validate(json.loads(body))
    batch = events_tracked.decode(body)
    assert (batch.batch_id, batch.part) == (UUID(int=99), part)
    assert batch.ids == [str(event.id) for event in EVENTS]


@pytest.mark.parametrize(
    "part",
    [
        BatchPart(0, 4, 4, [0, 1, 3, 2]),
        BatchPart(0, 4, 4, [0, 1, 2, 2]),
        BatchPart(1, 5, 5, [0, 1, 2, 3]),
        BatchPart(0, 3, 5, [0, 1, 2, 3]),
        BatchPart(0, 5, 4, [0, 1, 2, 3]),
        BatchPart(-1, 4, 4, [-1, 0, 1, 2]),
        BatchPart(0, 5, 5, [0, 1, 2]),
    ],
)
def test_positions_that_are_not_those_of_the_part_are_unreadable(part: BatchPart) -> None:
    body = events_tracked.encode(UUID(int=99), AT, [SYSTEM], EVENTS, part)

    with pytest.raises(UnreadableMessage, match="positions"):
        events_tracked.decode(body)


def test_some_events_are_selected_in_every_column() -> None:
    batch = events_tracked.decode(events_tracked.encode(UUID(int=99), AT, [SYSTEM], EVENTS))

    some = batch.select([1, 3])

    assert some.ids == [str(EVENTS[1].id), str(EVENTS[3].id)]
    assert {len(column) for column in to_columns(some, AT)} == {2}
