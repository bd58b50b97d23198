"""The identity links of an event, and which of several links counts."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.events.privacy import PersonalData, apply_privacy_rules
from services.gateway.events.segment import to_envelope
from tracking.domain.identity_link import IdentityLink, find_linked_ids, select_earliest
from tracking.domain.system_settings import PrivacyRule, SystemSettings

START = datetime(2026, 3, 1, tzinfo=UTC)
SYSTEM = UUID(int=7)


@pytest.mark.parametrize(
    ("event_type", "user_id", "anonymous_id", "properties", "expected"),
    [
        ("identify", "u", "a", {}, [("anonymous", "a")]),
        ("identify", "u", "u", {}, [("anonymous", "u")]),
        ("identify", "u", "a", {"previousId": "p"}, [("anonymous", "a")]),
        ("alias", "u", None, {"previousId": "p"}, [("anonymous", "p"), ("user", "p")]),
        ("alias", "u", "a", {"previousId": "p"}, [("anonymous", "p"), ("user", "p")]),
        ("alias", "u", None, {"previousId": "u"}, [("anonymous", "u")]),
        ("alias", "u", "a", {}, [("anonymous", "a")]),
        ("alias", "u", "a", {"previousId": None}, [("anonymous", "a")]),
        ("alias", "u", None, {"previousId": 12}, []),
        ("alias", "u", None, {"previousId": "x" * 255}, [("anonymous", "x" * 255), ("user", "x" * 255)]),
        ("alias", "u", None, {"previousId": "x" * 256}, []),
        ("alias", None, "a", {"previousId": "p"}, []),
        ("identify", None, "a", {}, []),
        ("identify", "", "a", {}, []),
        ("identify", "u", "", {}, []),
        (None, "u", "a", {"previousId": "p"}, []),
        ("page", "u", "a", {}, []),
    ],
)
def test_only_identify_and_alias_link_ids(
    event_type: str | None,
    user_id: str | None,
    anonymous_id: str | None,
    properties: dict[str, Any],
    expected: list[tuple[str, str]],
) -> None:
    text = json.dumps(properties)

    assert list(find_linked_ids(event_type, user_id, anonymous_id, text)) == expected
    assert list(find_linked_ids(event_type, user_id, anonymous_id, text.encode())) == expected


@pytest.mark.parametrize("properties", [b"[]", b'"previousId"', b"null", b'{"n": ' + b"1" * 10_000 + b"}"])
def test_properties_of_any_shape_are_no_error(properties: bytes) -> None:
    assert find_linked_ids("alias", "u", None, properties) == ()


def link(second: int, event: int, user: str, id_: str = "a") -> IdentityLink:
    return IdentityLink(SYSTEM, "anonymous", id_, user, START + timedelta(seconds=second), UUID(int=event))


claims = st.lists(
    st.builds(link, st.integers(0, 5), st.integers(0, 5), st.just("u"), st.sampled_from("abc")), max_size=12
)


@given(claims, st.randoms())
def test_the_earliest_is_believed_in_whatever_order_and_groups_they_come(
    given_links: list[IdentityLink], chance: Any
) -> None:
    shuffled = list(given_links)
    chance.shuffle(shuffled)
    half = len(shuffled) // 2

    whole = sorted(select_earliest(given_links))
    in_parts = sorted(
        select_earliest([*select_earliest(shuffled[:half]), *select_earliest(shuffled[half:]), *shuffled])
    )

    assert in_parts == whole
    for one in whole:
        same_id = [other for other in given_links if other.id == one.id]
        assert (one.linked_at, one.event_id) == min((other.linked_at, other.event_id) for other in same_id)


def test_hashed_ids_link_as_ids_do_if_the_previous_id_is_hashed_too() -> None:
    paths = ("$.userId", "$.anonymousId", "$.properties.previousId")
    settings = SystemSettings(privacy_rules=tuple(PrivacyRule(path, "hash") for path in paths))
    messages: list[dict[str, Any]] = [
        {"type": "identify", "userId": "old", "anonymousId": "a"},
        {"type": "alias", "userId": "new", "previousId": "old"},
    ]

    stored = []
    for message in messages:
        event = to_envelope(message, None)
        assert isinstance(event, dict)
        kept = PersonalData(event["userId"], event["anonymousId"], event["eventProperties"] or {}, None)
        stored.append(apply_privacy_rules(settings, SYSTEM, kept))

    users = [event.user_id for event in stored]
    assert "old" not in users
    assert find_linked_ids("alias", users[1], None, json.dumps(stored[1].properties))[1] == ("user", users[0])
    assert find_linked_ids("identify", users[0], stored[0].anonymous_id, b"{}") == (
        ("anonymous", stored[0].anonymous_id),
    )
