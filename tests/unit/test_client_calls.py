"""The client's tracking methods, its queue, and its callbacks. No IO."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tracking_client import Failure, Options, QueueFull, Stored, Tracker
from tracking_client.buffer import Buffer
from tracking_client.outcome import FailureLog, OutcomeReporter
from tracking_client.tracking_methods import EncodedEvent, PutError, TrackingMethods

NOON = datetime(2026, 11, 20, 12, 0, 0, 123456, UTC)


class Kept(TrackingMethods):
    """Calls whose events stay in a buffer."""

    def __init__(self, **options: Any) -> None:
        self.failures: list[Failure] = []
        self.is_closed = False
        given = Options(**options)
        super().__init__(given, OutcomeReporter(None, self.failures.append))
        self.buffer = Buffer(given)

    def _put(self, event: EncodedEvent) -> PutError | None:
        if self.is_closed:
            return "closed"
        return None if self.buffer.put(event, 0.0) else "queue_full"

    def envelope(self) -> Any:
        """The one event that was put."""
        [event] = self.buffer.take_all()
        return json.loads(event.body)


def an_event(size: int = 10, number: int = 0) -> EncodedEvent:
    return EncodedEvent(f"e{number}", b"x" * size)


def test_an_event_says_what_it_was_given_and_nothing_more() -> None:
    calls = Kept()

    returned = calls.track("Order Completed", user_id="u1", properties={"total": 1.5}, timestamp=NOON)

    assert calls.envelope() == {
        "eventId": returned,
        "eventName": "Order Completed",
        "eventTimestamp": "2026-11-20T12:00:00.123456Z",
        "userId": "u1",
        "eventProperties": {"total": 1.5},
    }
    assert UUID(returned).version == 4


@pytest.mark.parametrize(
    ("call", "kind", "properties"),
    [
        (lambda calls: calls.identify("u1", anonymous_id="a1", traits={"plan": "pro"}), "identify", {"plan": "pro"}),
        (lambda calls: calls.page("Home", user_id="u1", properties={"url": "/"}), "page", {"name": "Home", "url": "/"}),
        (lambda calls: calls.page(user_id="u1"), "page", None),
        (lambda calls: calls.screen("Login", anonymous_id="a1"), "screen", {"name": "Login"}),
        (lambda calls: calls.group("g1", user_id="u1", traits={"n": 3}), "group", {"groupId": "g1", "n": 3}),
        (lambda calls: calls.alias("u1", previous_id="a1"), "alias", {"previousId": "a1"}),
    ],
)
def test_other_calls_are_events_of_their_kind(
    call: Callable[[TrackingMethods], str], kind: str, properties: Any
) -> None:
    calls = Kept()

    call(calls)

    envelope = calls.envelope()
    assert (envelope["eventName"], envelope["eventType"]) == (kind, kind)
    assert envelope.get("eventProperties") == properties


def test_every_event_has_an_id_of_its_own_unless_it_is_given_one() -> None:
    calls = Kept()

    ids = {calls.track("e", user_id="u") for _ in range(1000)}

    assert len(ids) == 1000
    assert calls.track("e", user_id="u", event_id="mine") == "mine"


@pytest.mark.parametrize(
    ("timestamp", "written"),
    [
        ("2026-01-02T03:04:05+07:00", "2026-01-02T03:04:05+07:00"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=7))), "2026-01-01T20:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5), datetime(2026, 1, 2, 3, 4, 5).astimezone(UTC).isoformat()[:-6] + "Z"),
    ],
)
def test_times_are_written_in_utc_and_text_as_it_is(timestamp: datetime | str, written: str) -> None:
    calls = Kept()

    calls.track("e", user_id="u", timestamp=timestamp)

    assert calls.envelope()["eventTimestamp"] == written


def test_without_a_time_it_is_now() -> None:
    calls = Kept()
    before = datetime.now(UTC)

    calls.track("e", user_id="u")

    assert before <= datetime.fromisoformat(calls.envelope()["eventTimestamp"]) <= datetime.now(UTC)


def test_what_properties_often_hold_has_a_text() -> None:
    calls = Kept()
    properties = {"at": NOON, "day": date(2026, 1, 2), "price": Decimal("1.10"), "id": UUID(int=1), "text": "cà phê 🎄"}

    calls.track("e", user_id="u", properties=properties)

    assert calls.envelope()["eventProperties"] == {
        "at": "2026-11-20T12:00:00.123456+00:00",
        "day": "2026-01-02",
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000001",
        "text": "cà phê 🎄",
    }


def test_half_of_a_surrogate_pair_travels_as_an_escape() -> None:
    calls = Kept()

    calls.track("e", user_id="u", properties={"text": "\ud83d"})

    [event] = calls.buffer.take_all()
    assert rb'"\ud83d"' in event.body


def _endless() -> dict[str, Any]:
    properties: dict[str, Any] = {}
    properties["itself"] = properties
    return properties


@pytest.mark.parametrize(
    "given",
    [
        {"properties": {"n": float("nan")}},
        {"properties": {"f": lambda: None}},
        {"properties": {("a", "b"): 1}},
        {"properties": _endless()},
        {"timestamp": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
        {"timestamp": 1_700_000_000},
    ],
    ids=["nan", "function", "tuple as a name", "endless", "no such time in UTC", "a number"],
)
def test_what_has_no_json_is_told_and_harms_no_caller(given: dict[str, Any]) -> None:
    calls = Kept()

    returned = calls.track("e", user_id="u", **given)

    [failure] = calls.failures
    assert (failure.code, failure.event["eventId"]) == ("not_json", returned)
    assert calls.counts.failures == {"not_json": 1}


def test_an_event_larger_than_any_batch_is_told() -> None:
    calls = Kept(batch_bytes=1000)

    calls.track("e", user_id="u", properties={"text": "x" * 1000})

    assert [failure.code for failure in calls.failures] == ["event_too_large"]


def test_when_the_queue_is_full_each_further_event_is_told() -> None:
    calls = Kept(queue_events=2)

    ids = [calls.track("e", user_id="u") for _ in range(5)]

    assert [failure.event["eventId"] for failure in calls.failures] == ids[2:]
    assert calls.counts.failures == {"queue_full": 3}
    assert [event.event_id for event in calls.buffer.take_all()] == ids[:2]


def test_when_the_queue_is_full_it_raises_if_that_is_wished() -> None:
    calls = Kept(queue_events=1, when_full="raise")
    calls.track("e", user_id="u")

    with pytest.raises(QueueFull):
        calls.track("e", user_id="u")

    assert calls.failures == []


def test_after_the_end_an_event_is_told_even_if_a_full_queue_would_raise() -> None:
    calls = Kept(when_full="raise")
    calls.is_closed = True

    calls.track("e", user_id="u")

    assert [failure.code for failure in calls.failures] == ["closed"]


def test_the_queue_is_bounded_in_bytes_too() -> None:
    buffer = Buffer(Options(queue_bytes=100))

    assert [buffer.put(an_event(40), 0.0) for _ in range(3)] == [True, True, False]
    assert buffer.put(an_event(20), 0.0)
    buffer.take(0.0)
    assert buffer.put(an_event(100), 0.0)


def test_a_batch_has_at_most_so_many_events_and_bytes() -> None:
    buffer = Buffer(Options(batch_events=3, batch_bytes=100))
    for number, size in enumerate([30, 30, 30, 30, 60, 60, 100, 1]):
        buffer.put(an_event(size, number), 0.0)

    batches = [[len(event.body) for event in buffer.take(0.0)] for _ in range(5)]

    assert batches == [[30, 30, 30], [30, 60], [60], [100], [1]]


def test_an_event_waits_for_others_until_the_batch_is_full_or_time_is_up() -> None:
    buffer = Buffer(Options(batch_events=2, linger_s=0.5))
    assert buffer.due_in_s(10.0) is None

    buffer.put(an_event(), 10.0)

    assert buffer.due_in_s(10.2) == pytest.approx(0.3)
    assert buffer.due_in_s(11.0) == 0
    buffer.put(an_event(), 10.2)
    assert buffer.due_in_s(10.2) == 0


def test_a_flush_makes_due_the_events_that_wait_and_not_later_ones() -> None:
    buffer = Buffer(Options(linger_s=0.5))
    buffer.put(an_event(), 0.0)

    target = buffer.flush()

    assert buffer.due_in_s(0.0) == 0
    buffer.mark_done(len(buffer.take(0.0)))
    assert buffer.done_count == target
    buffer.put(an_event(), 1.0)
    assert buffer.due_in_s(1.0) == 0.5


def test_what_is_put_back_is_first_again() -> None:
    buffer = Buffer(Options(queue_events=3, batch_events=2))
    for number in range(3):
        buffer.put(an_event(number=number), 0.0)

    buffer.requeue(buffer.take(0.0))

    assert [event.event_id for event in buffer.take_all()] == ["e0", "e1", "e2"]
    assert len(buffer) == 0


def test_a_callback_that_fails_is_logged_and_the_next_is_called(caplog: pytest.LogCaptureFixture) -> None:
    received: list[str] = []

    def on_stored(stored: Stored) -> None:
        received.append(stored.event_id)
        raise RuntimeError("a bug of the program")

    reporter = OutcomeReporter(on_stored, None)
    reporter.report([Stored("a", "1", True, False), Stored("b", "2", False, True)])

    assert received == ["a", "b"]
    assert "a bug of the program" in caplog.text
    assert (reporter.counts.stored, reporter.counts.duplicates, reporter.counts.invalid) == (2, 1, 1)


def test_failures_nobody_listens_to_are_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    log = FailureLog()
    failure = Failure("queue_full", "The queue is full.", {"eventName": "e"})

    with caplog.at_level(logging.WARNING, "tracking_client"):
        for _ in range(100):
            log(failure)
        log(Failure("unauthenticated", "No such key.", {"eventName": "e"}))

    assert [record.getMessage() for record in caplog.records] == [
        "event 'e' was not stored: queue_full: The queue is full.",
        "event 'e' was not stored: unauthenticated: No such key.",
    ]


@pytest.mark.parametrize(
    "given",
    [{"queue_events": 0}, {"linger_s": -1}, {"batch_bytes": 0}, {"when_full": "wait"}, {"timeout_s": 0}],
)
def test_options_that_make_no_sense_are_an_error(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Options(**given)


@pytest.mark.parametrize(
    ("url", "key"), [("localhost:8001", "sk"), ("ftp://host", "sk"), ("http://host", ""), ("http://host", "a\nb")]
)
def test_an_address_or_key_that_cannot_be_one_is_an_error_at_once(url: str, key: str) -> None:
    with pytest.raises(ValueError):
        Tracker(url, key)
