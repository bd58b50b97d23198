"""Members with evident other names are taken, all others are kept and flagged; nothing is dropped in silence."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.decode import decode_batch, decode_event
from services.gateway.events.pixel import parse_pixel_query
from services.gateway.events.segment import read_sdk_messages, to_envelope
from services.gateway.events.structure_index import StructureIndex
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.system_settings import PrivacyRule, SystemSettings
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
KEY = ApiKeyEntry(UUID(int=1), None, None, UUID(int=7), "Site", True, UUID(int=2), "Acme", True)
EVENT = {"eventName": "order", "userId": "u"}
AT = "2026-11-23T07:00:00Z"


def decided(envelope: Any, key: ApiKeyEntry = KEY, max_bytes: int = 65_536) -> TrackingEvent:
    sender = IngestContext(key, NOW, to_unix_ms(NOW), "c-1", max_bytes)
    event = decide(envelope, sender, StructureIndex(), 0)
    assert isinstance(event, TrackingEvent), event
    return event


def flagged(event: TrackingEvent) -> list[tuple[str, str]]:
    return [(error["code"], error["path"]) for error in orjson.loads(event.validation_errors or b"[]")]


def context_of(event: TrackingEvent) -> Any:
    return orjson.loads(event.context or b"null")


@pytest.mark.parametrize(
    "envelope",
    [
        {"eventName": "order", "userId": "u", "properties": {"price": 5}, "timestamp": AT, "messageId": "m"},
        {"event": "order", "user_id": "u", "event_properties": {"price": 5}, "event_timestamp": AT, "message_id": "m"},
        {"EventName": "order", "UserId": "u", "EventProperties": {"price": 5}, "EventTimestamp": AT, "MessageId": "m"},
        {"event_name": "order", "userId": "u", "props": {"price": 5}, "time": AT, "event_id": "m", "type": "track"},
        {"event": "order", "eventName": None, "userId": "u", "properties": {"price": 5}, "originalTimestamp": AT,
         "eventId": "m"},
    ],
)  # fmt: skip
def test_evident_other_names_are_taken_without_a_flag(envelope: dict[str, Any]) -> None:
    event = decided(envelope)

    assert flagged(event) == []
    assert (event.event_name, event.user_id, event.message_id) == ("order", "u", "m")
    assert orjson.loads(event.event_properties) == {"price": 5}
    assert event.event_timestamp == datetime(2026, 11, 23, 7, tzinfo=UTC)
    assert event.context is None


def test_another_name_beside_the_right_one_is_kept_and_flagged() -> None:
    event = decided({**EVENT, "eventProperties": {"a": 1}, "properties": {"b": 2}, "event": "other"})

    assert orjson.loads(event.event_properties) == {"a": 1}
    assert context_of(event) == {"$unknown": {"properties": {"b": 2}, "event": "other"}}
    assert sorted(flagged(event)) == [("unknown_member", "/event"), ("unknown_member", "/properties")]


def test_an_unknown_member_is_kept_in_the_context_and_flagged_with_its_path() -> None:
    event = decided({**EVENT, "a/b~c": [1], "price": 0, "context": {"page": {"path": "/"}}, "nothing": None})

    assert not event.is_valid
    assert context_of(event) == {"page": {"path": "/"}, "$unknown": {"a/b~c": [1], "price": 0}}
    assert flagged(event) == [("unknown_member", "/a~1b~0c"), ("unknown_member", "/price")]


def test_a_name_with_nul_can_be_stored() -> None:
    event = decided(decode_event(b'{"eventName":"order","userId":"u","a\\u0000":"\\u0000"}'))

    assert b"\\u0000" not in (event.context or b"") + (event.validation_errors or b"")


def test_unknown_members_that_do_not_fit_are_flagged_and_cost_no_event() -> None:
    event = decided({**EVENT, "big": "x" * 2_000, "context": {"a": 1}}, max_bytes=1_000)

    assert flagged(event) == [("unknown_member", "/big")]
    assert context_of(event) == {"a": 1}


def test_privacy_is_not_bypassed_by_an_unknown_member() -> None:
    by_default = decided({**EVENT, "ip": "203.0.113.77", "context": {"ip": "203.0.113.78"}, "api_key": "sk_secret"})
    alone = decided({**EVENT, "ip": "203.0.113.77"})
    rules = SystemSettings(privacy_rules=(PrivacyRule("$.properties.email", "drop"),))
    with_rules = decided({**EVENT, "email": "a@b.example"}, replace(KEY, settings=rules))

    assert context_of(by_default) == {"ip": "203.0.113.0"}
    assert flagged(by_default) == [("unknown_member", "/ip")]
    assert (context_of(alone), flagged(alone)) == ({"ip": "203.0.113.0"}, [])
    assert with_rules.context is None
    assert flagged(with_rules) == [("unknown_member", "/email")]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "track", "event": "order", "properties": {}, "integrations": {"All": True}, "channel": "server",
         "_metadata": {"a": 1}, "version": 1, "writeKey": "k", "sentAt": AT, "originalTimestamp": AT, "timestamp": AT},
        {"type": "identify", "traits": {"plan": "pro"}, "event": "identify", "properties": {}, "groupId": ""},
        {"type": "screen", "name": "Cart", "event": "Cart", "properties": {"a": 1}, "previousId": ""},
        {"type": "page", "event": "Home", "properties": {"a": 1}},
        {"type": "merge", "mergeProperties": [{"type": "userId", "value": "a"}, {"type": "anonymousId", "value": "b"}]},
    ],
)  # fmt: skip
def test_what_sdks_write_for_each_other_is_no_unknown_member(message: dict[str, Any]) -> None:
    assert flagged(decided(to_envelope({"userId": "u", **message}, None))) == []


def test_a_member_that_the_type_of_a_message_does_not_have_is_kept_and_flagged() -> None:
    event = decided(to_envelope({"type": "track", "event": "order", "userId": "u", "traits": {"a": 1}, "x": 2}, None))

    # traits have a place in the context
    assert context_of(event) == {"traits": {"a": 1}, "$unknown": {"x": 2}}
    assert flagged(event) == [("unknown_member", "/x")]


@pytest.mark.parametrize(("context", "kept"), [({"traits": {"b": 2}}, {"traits": {"b": 2}}), ("web", {"$raw": "web"})])
def test_traits_for_which_the_context_has_no_place_are_kept_and_flagged(context: Any, kept: dict[str, Any]) -> None:
    message = {"type": "page", "userId": "u", "traits": {"a": 1}, "context": context}

    event = decided(to_envelope(message, None))

    assert context_of(event) == {**kept, "$unknown": {"traits": {"a": 1}}}
    assert ("unknown_member", "/traits") in flagged(event)


def test_messages_may_have_the_names_of_events() -> None:
    message = {"event_name": "order", "user_id": 7, "eventProperties": {"a": 1}, "eventTimestamp": AT, "eventId": "m"}

    event = decided(to_envelope(message, "track"))

    assert flagged(event) == []
    assert (event.event_name, event.user_id, event.message_id) == ("order", "7", "m")
    assert orjson.loads(event.event_properties) == {"a": 1}


@pytest.mark.parametrize("is_sdk", [False, True])
def test_the_members_of_a_batch_stand_for_each_of_its_events(is_sdk: bool) -> None:
    event = {"type": "track", "event": "order", "userId": "u"} if is_sdk else EVENT
    members = {"context": {"app": {"name": "a"}}, "release": "1.2", "apiKey" if not is_sdk else "writeKey": "sk_k"}
    second = {**event, "context": {"app": {"name": "b"}}}
    body = {"batch" if is_sdk else "events": [event, second, 5], **members}

    if is_sdk:
        messages, _, _ = read_sdk_messages(decode_event(orjson.dumps(body)), None)
        envelopes = [to_envelope(message, None) for message in messages]
    else:
        envelopes = decode_batch(orjson.dumps(body)).envelopes

    first, other = decided(envelopes[0]), decided(envelopes[1])
    assert context_of(first) == {"app": {"name": "a"}, "$unknown": {"release": "1.2"}}
    assert context_of(other) == {"app": {"name": "b"}, "$unknown": {"release": "1.2"}}
    assert flagged(first) == [("unknown_member", "/release")]


def test_a_pixel_drops_no_parameter() -> None:
    query = b"event_name=order&user_id=u&userId=v&name=n&groupId=g&a=1"

    event = decided(to_envelope(parse_pixel_query(query), None))

    assert flagged(event) == []
    assert (event.event_name, event.user_id) == ("order", "u")
    assert orjson.loads(event.event_properties) == {"userId": "v", "name": "n", "groupId": "g", "a": "1"}
