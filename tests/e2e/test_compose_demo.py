"""The demo itself: the events that it plans, when it sends again, the results that it reports as wrong. No servers."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo import DemoError
from deploy.demo.events import DemoPlan, PlannedEvent, plan
from deploy.demo.send import DemoSender, SendResult
from deploy.demo.target import Target
from deploy.demo.verify import compare, differences
from tracking_client import Options

NOW = datetime(2026, 1, 5, tzinfo=UTC)
PING = PlannedEvent({"event_name": "ping", "user_id": "u", "event_id": "e1"}, "valid")
ADDRESSES = {
    "TRACKING_GATEWAY_URL": "https://edge/",
    "TRACKING_ADMIN_URL": "https://edge",
    "TRACKING_QUERY_URL": "https://edge",
    "TRACKING_ADMIN_TOKEN": "a-token",
}


@pytest.mark.parametrize("count", [1, 2, 199, 5000])
def test_a_plan_stores_as_many_events_as_asked(count: int) -> None:
    made = plan(count, count, NOW)

    assert len(made.stored) == sum(made.counts().values()) == count
    assert made.sent == count + made.repeats + made.rejected
    assert (made.repeats, made.rejected) == (count // 50, count // 200)


def test_a_repeat_is_the_same_event_as_another_to_the_letter() -> None:
    events = plan(5000, 1, NOW).events
    originals = Counter(json.dumps(event.arguments) for event in events if not event.is_repeat)

    repeats = [event for event in events if event.is_repeat]

    assert len(repeats) == 100
    assert all({"event_id", "timestamp"} <= event.arguments.keys() for event in repeats)
    assert all(originals[json.dumps(event.arguments)] == 1 for event in repeats)


def test_a_seed_makes_the_same_plan_again() -> None:
    assert plan(300, 7, NOW) == plan(300, 7, NOW)
    assert plan(300, 7, NOW) != plan(300, 8, NOW)


def test_a_plan_has_something_of_everything() -> None:
    made = plan(5000, 1, NOW)
    calls = [event.arguments for event in made.stored]

    assert 0 < made.invalid() < 1000
    assert {type(call["properties"]) for call in calls} >= {dict, str, list}
    assert {frozenset(call) & {"user_id", "anonymous_id"} for call in calls} >= {
        frozenset({"user_id"}),
        frozenset({"anonymous_id"}),
        frozenset({"user_id", "anonymous_id"}),
    }
    assert [call for call in calls if "event_id" not in call]
    assert [call for call in calls if "timestamp" not in call]


async def send(answer: Callable[[int], httpx.Response], *events: PlannedEvent) -> SendResult:
    """Run the sender against a gateway that gives these responses in turn; no pause is long."""
    asked = 0

    def handle(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return answer(asked)

    options = Options(linger_s=0, first_pause_s=0.01, retry_for_s=0.2, longest_pause_s=0.05)
    sender = DemoSender("http://gateway", "sk_x", {"transport": httpx.MockTransport(handle)}, options)
    return await sender.send(DemoPlan(events), lambda _: None)


def acknowledged(**changes: Any) -> httpx.Response:
    result = {"status": "accepted", "eventId": "id-1", "isValid": True, "validationErrors": None} | changes
    return httpx.Response(202, json={"results": [result]})


async def test_an_event_is_sent_again_until_it_is_acknowledged() -> None:
    def answer(asked: int) -> httpx.Response:
        return httpx.Response(503, headers={"Retry-After": "0"}) if asked < 3 else acknowledged(status="duplicate")

    outcome = await send(answer, PING)

    assert (outcome.event_ids, outcome.retries, outcome.duplicates) == ({"id-1"}, 2, 1)


async def test_a_gateway_that_never_answers_ends_the_run() -> None:
    def answer(asked: int) -> httpx.Response:
        raise httpx.ReadTimeout("no answer")

    with pytest.raises(DemoError, match="not_acknowledged"):
        await send(answer, PING)


async def test_a_rejection_ends_the_run() -> None:
    with pytest.raises(DemoError, match="401"):
        await send(lambda _: httpx.Response(401), PING)


async def test_a_result_other_than_planned_is_an_error() -> None:
    outcome = await send(lambda _: acknowledged(isValid=False), PING)

    [fault] = outcome.faults
    assert "expected valid, the gateway says invalid" in fault


def test_every_way_of_being_wrong_is_named() -> None:
    seen = Counter({"a": 1, "b": 2, "x": 1})

    assert differences("by cursor", seen, {"a", "b", "c"}) == [
        "by cursor: 1 events acknowledged but not listed",
        "by cursor: 1 events listed but never acknowledged",
        "by cursor: 1 events listed more than once",
    ]
    assert differences("by cursor", Counter({"a": 1}), {"a"}) == []


def test_a_name_that_was_never_sent_is_shown_too() -> None:
    made = DemoPlan((PING,))
    statistics = {"eventCounts": {"ping": 1, "ghost": 2}, "validEvents": 3, "invalidEvents": 0, "totalEvents": 3}

    rows = {row.name: (row.sent, row.counted) for row in compare(made, statistics)}

    assert rows == {"ping": (1, 1), "ghost": (0, 2), "valid": (1, 3), "invalid": (0, 0), "all": (1, 3)}


def test_addresses_come_from_the_environment_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "credentials.env"
    file.write_text("TRACKING_GATEWAY_URL=http://local\nTRACKING_DEMO_SYSTEM_ID=local-system\n")

    target = Target.find(ADDRESSES, file)

    assert (target.gateway_url, target.demo_system_id) == ("https://edge", None)


def test_without_addresses_the_way_to_get_them_is_said(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="make up"):
        Target.find({}, tmp_path / "missing.env")
