"""Each declared field of an event is in the message's schema and in the model of the response, and nothing else is."""

import json
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import get_args
from uuid import UUID

import pytest

from services.query.models import Event
from tracking.contracts import events_tracked
from tracking.domain.event_fields import EVENT_FIELDS, EventField, list_fields
from tracking.domain.tracking_event import TrackingEvent

SCHEMA = json.loads((Path(events_tracked.__file__).parent / "events_tracked.v1.schema.json").read_text())
EVENTS = SCHEMA["properties"]["events"]
EXAMPLES = sorted((Path(events_tracked.__file__).parent / "examples").glob("events_tracked.v1.good.*.json"))
# of a value in TrackingEvent
PYTHON_TYPES = {"uuid": UUID, "text": str, "timestamptz": datetime, "jsonb": bytes, "integer": int, "boolean": bool}
BY_NAME = {field.name: field for field in EVENT_FIELDS}


def test_a_field_is_declared_once() -> None:
    assert len(BY_NAME) == len(EVENT_FIELDS)
    assert TrackingEvent._fields == tuple(field.name for field in list_fields("write table"))


@pytest.mark.parametrize("name", TrackingEvent._fields)
def test_the_type_of_a_value_is_that_of_its_column(name: str) -> None:
    declared = TrackingEvent.__annotations__[name].__origin__
    types = get_args(declared) or (declared,)

    assert PYTHON_TYPES[BY_NAME[name].postgres_type] == types[0]
    assert set(types[1:]) <= {NoneType}
    assert BY_NAME[name].is_optional or NoneType not in types


def test_the_schema_of_the_message_has_the_fields_of_the_message() -> None:
    fields = list_fields("message")

    assert set(EVENTS["properties"]) == {"system", *(field.message_name for field in fields)}
    assert set(EVENTS["required"]) == {"system", *(field.message_name for field in fields if not field.is_optional)}


@pytest.mark.parametrize("field", list_fields("message"), ids=lambda field: field.name)
def test_each_field_of_the_message_has_an_example(field: EventField) -> None:
    columns = [json.loads(example.read_text())["events"].get(field.message_name, []) for example in EXAMPLES]

    assert any(value != field.missing_value for column in columns for value in column)


def test_the_response_has_the_fields_of_the_response_and_its_model_describes_them() -> None:
    names = {field.name for field in list_fields("response")}

    # eventId is another name of id
    assert set(Event.model_fields) == {"event_id", *names}
    assert {Event.model_fields[name].alias for name in names} == {BY_NAME[name].json_name for name in names}


def test_the_example_of_the_response_has_every_field() -> None:
    schema = Event.model_json_schema(by_alias=True)

    assert [set(example) for example in schema["examples"]] == [set(schema["properties"])]
