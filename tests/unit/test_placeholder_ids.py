"""Texts that stand for no id: which they are, and that they link nobody and hide nobody."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.privacy import PersonalData, apply_privacy_rules
from services.gateway.events.structure_index import StructureIndex
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.identity_link import find_linked_ids, get_link_time
from tracking.domain.ids import make_uuid7, read_uuid7_time
from tracking.domain.placeholder_ids import is_placeholder_id
from tracking.domain.system_settings import PrivacyRule, SystemSettings
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
SYSTEM = UUID(int=7)
KEY = ApiKeyEntry(UUID(int=1), None, None, SYSTEM, "s", True, UUID(int=2), "p", True)
PLACEHOLDERS = [
    *("null", "undefined", "NaN", "nan", "None", "nil", "true", "false", "0", "[object Object]", "anonymous", "guest"),
    *("userId", "user_id", "anonymousId", "anonymous_id", "distinct_id", "UNDEFINED", "Null"),
    *("00000000-0000-0000-0000-000000000000", "0" * 32, "{00000000-0000-0000-0000-000000000000}"),
    *(" ", "\t\n", "\u00a0", " undefined ", '"undefined"', "'null'", '\\"null\\"', "“null”", "`none`", '""', "''"),
    *("(null)", "<null>", "<none>", "{{userId}}", "${user_id}", " " * 300),
]
IDS = [
    *(
        "ann",
        "user_17",
        "1",
        "00",
        "01",
        "0a",
        "nullius",
        "none@example.com",
        "undefined-7",
        "Guest House",
        "true north",
    ),
    *("00000000-0000-0000-0000-000000000001", "9f0c8a52-7f2e-4c55-9d5e-0a4f6f6f2f10", "x" * 255, "(ann)", "null()"),
    *("user", "object", "nina", "0x0", "12345678901234567890"),
]


def decided(**envelope: Any) -> TrackingEvent:
    sender = IngestContext(KEY, NOW, to_unix_ms(NOW), "c-1", 65_536)
    event = decide({"eventName": "a", **envelope}, sender, StructureIndex(), 1)
    assert isinstance(event, TrackingEvent)
    return event


def flags(event: TrackingEvent) -> list[tuple[str, str]]:
    errors = orjson.loads(event.validation_errors or b"[]")
    return [(error["code"], error["message"].partition(":")[0]) for error in errors]


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_a_placeholder_is_known_in_any_case_and_with_anything_around_it(text: str) -> None:
    assert is_placeholder_id(text)


@pytest.mark.parametrize("text", IDS)
def test_an_id_is_no_placeholder(text: str) -> None:
    assert not is_placeholder_id(text)


@given(st.sampled_from([text for text in PLACEHOLDERS if text.isalpha()]), st.randoms(use_true_random=False))
def test_letter_case_and_what_is_around_do_not_matter(text: str, chance: Any) -> None:
    mixed = "".join(chance.choice((letter.lower(), letter.upper())) for letter in text)
    around = "".join(chance.choice(" \t\"'") for _ in range(chance.randrange(4)))

    assert is_placeholder_id(f"{around}{mixed}{around}")


@pytest.mark.parametrize("text", [text for text in PLACEHOLDERS if len(text) <= 255])
def test_a_placeholder_beside_an_id_is_flagged_and_leaves_the_id_as_the_actor(text: str) -> None:
    for event_type in ("track", "identify", "page", "alias"):
        user = decided(userId=text, anonymousId="device-1", eventType=event_type)
        visitor = decided(userId="ann", anonymousId=text, eventType=event_type)

        assert (user.user_id, user.anonymous_id, user.is_valid) == (None, "device-1", False)
        assert (visitor.user_id, visitor.anonymous_id, visitor.is_valid) == ("ann", None, False)
        assert flags(user) == [("placeholder_id", "userId")]
        assert flags(visitor) == [("placeholder_id", "anonymousId")]
        assert repr(text) in orjson.loads(user.validation_errors or b"")[0]["message"]


@pytest.mark.parametrize("text", ["undefined", " ", "(null)"])
def test_an_event_with_nothing_but_placeholders_is_kept_and_flagged(text: str) -> None:
    assert decided(userId=text).user_id == text
    assert decided(anonymousId=text).anonymous_id == text
    both = decided(userId=text, anonymousId="guest", eventType="identify")
    assert (both.user_id, both.anonymous_id) == (text, "guest")
    assert flags(both) == [("placeholder_id", "userId"), ("placeholder_id", "anonymousId")]


@pytest.mark.parametrize("text", ["undefined", " ", "(null)", "0"])
def test_a_placeholder_is_linked_with_nothing(text: str) -> None:
    nothing = json.dumps({})
    previous = json.dumps({"previousId": text})

    assert find_linked_ids("identify", text, "device-1", nothing) == ()
    assert find_linked_ids("identify", "ann", text, nothing) == ()
    assert find_linked_ids("alias", text, "device-1", json.dumps({"previousId": "bob"})) == ()
    assert find_linked_ids("alias", "ann", "device-1", previous) == ()
    assert find_linked_ids("identify", "ann", "device-1", nothing) == (("anonymous", "device-1"),)


def test_a_placeholder_as_the_previous_id_is_flagged() -> None:
    for properties in ({"previousId": "undefined"}, '{"previousId": "undefined"}'):
        event = decided(userId="ann", eventType="alias", eventProperties=properties)

        assert flags(event) == [("placeholder_id", "previousId")]
    assert flags(decided(userId="ann", eventType="alias", eventProperties={"previousId": "bob"})) == []
    assert flags(decided(userId="ann", eventProperties={"previousId": "undefined"})) == []


@pytest.mark.parametrize("action", ["hash", "truncate"])
def test_a_privacy_rule_makes_no_id_of_a_placeholder(action: Any) -> None:
    paths = ("$.userId", "$.anonymousId", "$.properties.previousId", "$.properties.name")
    length = 3 if action == "truncate" else None
    settings = SystemSettings(privacy_rules=tuple(PrivacyRule(path, action, length) for path in paths))
    person = PersonalData("undefined", "guest", {"previousId": "(null)", "name": "undefined"}, None)

    kept = apply_privacy_rules(settings, SYSTEM, person)

    assert (kept.user_id, kept.anonymous_id, kept.properties["previousId"]) == ("undefined", "guest", "(null)")
    assert kept.properties["name"] != "undefined"


def test_a_time_before_the_system_existed_cannot_win_a_link() -> None:
    system = make_uuid7(to_unix_ms(NOW), 5)
    received = NOW + timedelta(days=3)

    assert read_uuid7_time(system) == NOW
    assert get_link_time(system, NOW, received) == NOW
    assert get_link_time(system, NOW - timedelta(milliseconds=1), received) == received
    assert get_link_time(system, datetime(1970, 1, 1, tzinfo=UTC), received) == received
    assert get_link_time(system, datetime.min.replace(tzinfo=UTC), received) == received
    # an id that does not say when the system was registered
    assert get_link_time(SYSTEM, datetime(1970, 1, 1, tzinfo=UTC), received) == datetime(1970, 1, 1, tzinfo=UTC)
