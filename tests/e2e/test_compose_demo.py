"""The demo's own sums and judgement: what it plans, when it sends again, and what it calls wrong. No servers."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.demo import DemoError
from deploy.demo.events import Plan, PlannedEvent, PlannedRequest, plan
from deploy.demo.send import Outcome, Sender
from deploy.demo.target import Target
from deploy.demo.verify import compare, differences

NOW = datetime(2026, 1, 5, tzinfo=UTC)
WITH_ID = PlannedEvent({"eventName": "ping", "userId": "u", "eventId": "e1"}, "valid")
WITHOUT_ID = PlannedEvent({"eventName": "ping", "userId": "u"}, "valid")
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
    assert made.sent == count + made.repeats + made.refused
    assert (made.repeats, made.refused) == (min(count // 50, count), count // 200)


def test_a_repeat_is_the_same_event_as_another_to_the_letter() -> None:
    events = [event for request in plan(5000, 1, NOW).requests for event in request.events]
    originals = Counter(json.dumps(event.envelope) for event in events if not event.is_repeat)

    repeats = [event for event in events if event.is_repeat]

    assert len(repeats) == 100
    assert all(event.has_id and originals[json.dumps(event.envelope)] == 1 for event in repeats)


def test_a_seed_makes_the_same_plan_again() -> None:
    assert plan(300, 7, NOW) == plan(300, 7, NOW)
    assert plan(300, 7, NOW) != plan(300, 8, NOW)


def test_a_plan_has_something_of_everything() -> None:
    made = plan(5000, 1, NOW)
    envelopes = [event.envelope for event in made.stored]

    assert 0 < made.invalid() < 1000
    assert {type(envelope["eventProperties"]) for envelope in envelopes} >= {dict, str, list}
    assert {frozenset(envelope) & {"userId", "anonymousId"} for envelope in envelopes} >= {
        frozenset({"userId"}),
        frozenset({"anonymousId"}),
        frozenset({"userId", "anonymousId"}),
    }
    assert [envelope for envelope in envelopes if "eventId" not in envelope]
    assert {request.is_batch for request in made.requests} == {True, False}


async def send(answer: Callable[[int], httpx.Response], *events: PlannedEvent) -> Outcome:
    """What the sender makes of a gateway that answers its n-th request so; nothing waits for long."""
    asked = 0

    def handle(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        return answer(asked)

    requests = tuple(PlannedRequest((event,), is_batch=False, key_in_header=True) for event in events)
    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as client:
        return await Sender(client, "http://gateway", "sk_x").send(Plan(requests), lambda _: None)


def acknowledged(**changes: Any) -> httpx.Response:
    return httpx.Response(202, json={"eventId": "id-1", "isValid": True, "validationErrors": None} | changes)


async def test_an_event_with_an_id_is_sent_again_until_it_is_acknowledged() -> None:
    def answer(asked: int) -> httpx.Response:
        return httpx.Response(503, headers={"Retry-After": "0"}) if asked < 3 else acknowledged(duplicate=True)

    outcome = await send(answer, WITH_ID)

    assert (outcome.event_ids, outcome.retries, outcome.duplicates) == ({"id-1"}, 2, 1)


async def test_an_event_without_an_id_is_not_sent_again_when_it_may_be_stored() -> None:
    def answer(asked: int) -> httpx.Response:
        raise httpx.ReadTimeout("no answer")

    with pytest.raises(DemoError, match="nobody knows"):
        await send(answer, WITHOUT_ID)


async def test_a_refusal_ends_the_run() -> None:
    with pytest.raises(DemoError, match="401"):
        await send(lambda _: httpx.Response(401), WITH_ID)


async def test_a_verdict_other_than_planned_is_a_fault() -> None:
    outcome = await send(lambda _: acknowledged(isValid=False), WITH_ID)

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
    made = Plan((PlannedRequest((WITH_ID,), is_batch=False, key_in_header=True),))
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
