"""Messages of Segment and RudderStack SDKs as envelopes."""

from typing import Any

import pytest

from services.gateway.events.rejection import Rejection
from services.gateway.events.segment import BATCH_PATHS, EVENT_TYPE_BY_PATH, read_sdk_messages, to_envelope


def read(message: Any, kind: str | None = None) -> dict[str, Any]:
    found = to_envelope(message, kind)
    assert isinstance(found, dict), found
    return {name: value for name, value in found.items() if value is not None}


def test_every_type_has_its_long_and_its_short_path() -> None:
    kinds = {"track", "identify", "page", "screen", "group", "alias"}
    assert {name for name in EVENT_TYPE_BY_PATH if len(name) > 1} == kinds
    assert {name: kind for name, kind in EVENT_TYPE_BY_PATH.items() if len(name) == 1} == {
        "t": "track",
        "i": "identify",
        "p": "page",
        "s": "screen",
        "g": "group",
        "a": "alias",
    }
    assert {"batch", "b"} <= set(BATCH_PATHS)


def test_track_keeps_its_own_name_ids_and_times() -> None:
    found = read(
        {
            "type": "track",
            "event": "Order Completed",
            "properties": {"total": 9.5},
            "userId": "u",
            "anonymousId": None,
            "messageId": "m-1",
            "timestamp": "2026-01-02T03:04:05.678+05:30",
            "sentAt": "2026-01-02T03:04:06Z",
            "context": {"library": {"name": "x"}},
            "integrations": {},
            "channel": "server",
        }
    )

    assert found == {
        "eventName": "Order Completed",
        "eventType": "track",
        "eventTimestamp": "2026-01-02T03:04:05.678+05:30",
        "sentAt": "2026-01-02T03:04:06Z",
        "userId": "u",
        "messageId": "m-1",
        "eventProperties": {"total": 9.5},
        "context": {"library": {"name": "x"}},
    }


@pytest.mark.parametrize(
    ("message", "properties"),
    [
        ({"type": "page", "name": "Home", "properties": {"url": "/"}}, {"name": "Home", "url": "/"}),
        ({"type": "page", "name": "Home", "properties": {"name": "mine"}}, {"name": "mine"}),
        ({"type": "screen", "name": "Cart", "category": "Shop"}, {"name": "Cart", "category": "Shop"}),
        ({"type": "identify", "traits": {"plan": "pro"}}, {"plan": "pro"}),
        ({"type": "identify", "context": {"traits": {"plan": "pro"}}}, {"plan": "pro"}),
        ({"type": "identify", "traits": {}, "context": {"traits": {"plan": "pro"}}}, {}),
        ({"type": "group", "groupId": 7, "traits": {"seats": 3}}, {"groupId": "7", "seats": 3}),
        ({"type": "group", "groupId": "g", "context": {"traits": {"of": "the user"}}}, {"groupId": "g"}),
        ({"type": "alias", "previousId": "old"}, {"previousId": "old"}),
        ({"type": "alias", "previousId": 7}, {"previousId": "7"}),
        ({"type": "page", "name": "Home", "properties": "no object"}, "no object"),
    ],
)
def test_properties_are_what_the_type_is_about(message: dict[str, Any], properties: Any) -> None:
    found = read(message)

    assert found["eventName"] == found["eventType"] == message["type"]
    assert found["eventProperties"] == properties


def test_the_path_decides_before_the_message() -> None:
    assert read({"type": "track", "event": "x"}, "page")["eventType"] == "page"
    assert read({"event": "x"}, "track")["eventName"] == "x"


def test_rudderstack_node_has_only_an_original_timestamp() -> None:
    assert (
        read({"type": "page", "originalTimestamp": "2026-01-01T00:00:00Z"})["eventTimestamp"] == "2026-01-01T00:00:00Z"
    )


def test_numbers_are_good_ids() -> None:
    found = read({"type": "track", "event": "x", "userId": 12, "anonymousId": 3.5})

    assert (found["userId"], found["anonymousId"]) == ("12", "3.5")


@pytest.mark.parametrize("message", [None, 1, "text", [], {}, {"type": "unknown"}, {"type": None}, {"type": ["track"]}])
def test_what_is_no_message_is_rejected_alone(message: Any) -> None:
    found = to_envelope(message, None)

    assert isinstance(found, Rejection)
    assert found.reason == "invalid_event"


def test_the_messages_of_a_body() -> None:
    batch = {"batch": [{"type": "track"}], "sentAt": "s", "writeKey": "k"}

    assert read_sdk_messages(batch, None) == ([{"type": "track"}], "s", "k")
    assert read_sdk_messages([1, 2], None) == ([1, 2], None, None)
    assert read_sdk_messages({"type": "track", "sentAt": "s"}, None) == ([{"type": "track", "sentAt": "s"}], "s", None)
    assert read_sdk_messages({"event": "x", "batch": []}, "track") == ([{"event": "x", "batch": []}], None, None)
    assert read_sdk_messages("text", None) == (["text"], None, None)
