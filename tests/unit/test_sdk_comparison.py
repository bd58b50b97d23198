"""The comparison of `make test-sdks` finds each kind of difference."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.sdks.calls import SHORTEST, Call, calls, event_name
from tests.sdks.run import SdkRow, compare, statistics_differences
from tests.sdks.sdks import Sent

TOLD = calls(SHORTEST)
SENT = Sent("1", [f"m{call['number']}" for call in TOLD])


def as_stored(call: Call) -> dict[str, Any]:
    """Return the event as query would show it."""
    extra = {name: call[name] for name in ("name", "category", "groupId", "previousId") if name in call}
    return {
        "messageId": f"m{call['number']}",
        "eventName": event_name(call),
        "eventType": call["kind"],
        "userId": call["userId"],
        "anonymousId": call.get("anonymousId"),
        "eventProperties": {**call.get("properties", call.get("traits", {})), **extra},
        "context": {"library": {"name": "x"}},
        "isValid": True,
        "isBot": False,
    }


def judged(found: list[Mapping[str, Any]]) -> SdkRow:
    """Its line."""
    row = SdkRow("sdk", sent=SHORTEST)
    compare(row, TOLD, SENT, found)
    return row


def test_what_is_there_once_and_as_it_was_sent_is_good() -> None:
    row = judged([as_stored(call) for call in TOLD])

    assert row.is_good, row


def test_a_missing_one_and_one_that_is_there_twice_do_not_make_up_for_each_other() -> None:
    found = [as_stored(call) for call in TOLD]

    row = judged([found[0], *found[:-1]])

    assert (row.stored, row.twice, row.missing, row.is_good) == (SHORTEST, 1, 1, False)


def test_what_nobody_sent_is_wrong() -> None:
    stranger = as_stored(TOLD[0]) | {"messageId": "m999"}

    assert "nobody sent m999" in judged([as_stored(call) for call in TOLD] + [stranger]).wrong


@pytest.mark.parametrize(
    "change",
    [
        {"eventName": "other"},
        {"eventType": None},
        {"userId": "someone"},
        {"anonymousId": None},
        {"isBot": True},
        {"isValid": False},
        {"eventProperties": None},
        {"eventProperties": {"n": 0}},
        {"context": None},
    ],
    ids=str,
)
def test_a_field_that_is_not_as_it_was_sent_is_wrong(change: dict[str, Any]) -> None:
    found = [as_stored(call) for call in TOLD]
    found[0] |= change

    row = judged(list(found))

    assert not row.is_good
    assert row.wrong[0].startswith("track 0: ")


def test_statistics_that_count_another_number_or_name_are_wrong() -> None:
    good = {
        "totalEvents": 12,
        "validEvents": 12,
        "invalidEvents": 0,
        "eventCounts": {"Order Cancelled": 1, "Order Completed": 1}
        | dict.fromkeys(("page", "screen", "identify", "group", "alias"), 2),
    }

    assert statistics_differences(TOLD, good) == []
    assert len(statistics_differences(TOLD, good | {"totalEvents": 13, "eventCounts": {"page": 12}})) == 2
