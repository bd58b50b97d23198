"""PHP writes an object without members as `[]`, so an empty array is an empty object wherever an object is meant."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from services.admin.models.system_settings import SettingsChange
from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.segment import to_envelope
from services.gateway.events.structure_index import StructureIndex
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.system_settings import DEFAULT_SETTINGS
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
KEY = ApiKeyEntry(UUID(int=1), None, None, UUID(int=7), "Site", True, UUID(int=2), "Acme", True)
EVENT = {"eventName": "order", "userId": "u"}


def decided(envelope: Any) -> TrackingEvent:
    event = decide(envelope, IngestContext(KEY, NOW, to_unix_ms(NOW), "c-1", 65_536), StructureIndex(), 0)
    assert isinstance(event, TrackingEvent), event
    return event


@pytest.mark.parametrize("value", [[], "[]", {}, None])
def test_empty_properties_are_an_empty_object(value: Any) -> None:
    event = decided({**EVENT, "eventProperties": value})

    assert event.is_valid
    assert event.event_properties == b"{}"


@pytest.mark.parametrize(
    ("message", "properties"),
    [
        ({"type": "track", "event": "order", "properties": []}, {}),
        ({"type": "page", "properties": []}, {}),
        ({"type": "page", "name": "Home", "properties": []}, {"name": "Home"}),
        ({"type": "screen", "category": "Shop", "properties": []}, {"category": "Shop"}),
        ({"type": "identify", "traits": []}, {}),
        ({"type": "identify", "traits": [], "context": {"traits": {"plan": "pro"}}}, {"plan": "pro"}),
        ({"type": "identify", "context": {"traits": []}}, {}),
        ({"type": "identify", "context": []}, {}),
        ({"type": "group", "groupId": "g", "traits": []}, {"groupId": "g"}),
        ({"type": "alias", "previousId": "old", "traits": []}, {"previousId": "old"}),
        ({"type": "track", "event": "order", "context": [], "integrations": []}, {}),
    ],
)
def test_empty_properties_and_traits_of_a_message_are_empty_objects(
    message: dict[str, Any], properties: dict[str, Any]
) -> None:
    event = decided(to_envelope({"userId": "u", **message}, None))

    assert event.is_valid
    assert orjson.loads(event.event_properties) == properties


def test_the_objects_of_a_context_may_be_empty_arrays() -> None:
    context = {"page": [], "traits": [], "library": {"name": "php"}, "externalIds": [], "device": {"ids": []}}

    event = decided({**EVENT, "context": context})

    assert event.is_valid
    assert orjson.loads(event.context or b"") == {**context, "page": {}, "traits": {}}


def test_an_empty_context_is_none() -> None:
    event = decided({**EVENT, "context": []})

    assert event.is_valid
    assert event.context is None


def test_an_array_stays_one_where_no_object_is_meant() -> None:
    event = decided({**EVENT, "eventProperties": {"tags": [], "items": [[]]}, "context": {"tags": []}})

    assert orjson.loads(event.event_properties) == {"tags": [], "items": [[]]}
    assert orjson.loads(event.context or b"") == {"tags": []}


def test_an_array_with_members_is_no_object() -> None:
    event = decided({**EVENT, "eventProperties": [1]})

    assert [error["code"] for error in orjson.loads(event.validation_errors or b"[]")] == ["not_an_object"]


def test_empty_settings_change_nothing() -> None:
    assert SettingsChange.model_validate([]).apply_to(DEFAULT_SETTINGS) == DEFAULT_SETTINGS
