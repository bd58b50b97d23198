"""The events of a demo run, as real clients make them, each with its expected result. No IO; a seed fixes the plan."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, Literal

from deploy.local.demo_partner import EVENT_NAME as PURCHASE

ExpectedResult = Literal["valid", "invalid", "refused"]
DAYS_BACK = 3
_WEIGHTS = {"page_view": 50, "button_click": 20, PURCHASE: 12, "search": 8, "form_submit": 5, "Đăng ký ✓": 3, "ping": 2}
_PAGES = ("/", "/pricing", "/docs/getting-started", "/blog/2025/12", "/giỏ-hàng", "/プラン")
_REFERRERS = ("google.com", "news.ycombinator.com", None, "t.co")
_WORDS = ("laptop", "cà phê", "naïve café", "Привет", "こんにちは", "🎄 gift", "a\tb\n", 'say "hi"')


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """The arguments of a call of `track`; `is_repeat` if another call has the same ones."""

    arguments: dict[str, Any]
    expected_result: ExpectedResult
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """All events of a run in the order of sending, and the sums that must come out."""

    events: tuple[PlannedEvent, ...]

    @property
    def stored(self) -> tuple[PlannedEvent, ...]:
        """Every event that should be stored, once each."""
        return tuple(event for event in self.events if event.expected_result != "refused" and not event.is_repeat)

    @property
    def sent(self) -> int:
        """How many calls there are in all."""
        return len(self.events)

    @property
    def repeats(self) -> int:
        """How many of them repeat another."""
        return sum(event.is_repeat for event in self.events)

    @property
    def rejected(self) -> int:
        """How many are no events at all."""
        return sum(event.expected_result == "refused" for event in self.events)

    def counts(self) -> dict[str, int]:
        """`{event name: how many are stored}`."""
        return dict(Counter(event.arguments["event_name"] for event in self.stored))

    def invalid(self) -> int:
        """How many are stored with isValid=false."""
        return sum(event.expected_result == "invalid" for event in self.stored)


def plan(count: int, seed: int, now: datetime) -> DemoPlan:
    """`count` events to be stored; beside them one in 50 comes twice, and one in 200 is no event.

    One in ten has no id of its own, and one in ten no time: the client gives it one. What comes twice has both, as
    these two make a repeat.
    """
    random = Random(seed)  # noqa: S311 - made to be repeated
    events = [_event(random, now, number) for number in range(count)]
    repeatable = [event for event in events if {"event_id", "timestamp"} <= event.arguments.keys()]
    twice = random.sample(repeatable, min(count // 50, len(repeatable)))
    events += [PlannedEvent(event.arguments, event.expected_result, is_repeat=True) for event in twice]
    events += (_no_event(random) for _ in range(count // 200))
    random.shuffle(events)
    return DemoPlan(tuple(events))


def _event(random: Random, now: datetime, number: int) -> PlannedEvent:
    name = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    properties: Any
    properties, is_valid = _purchase(random, number) if name == PURCHASE else (_properties(random), True)
    arguments: dict[str, Any] = {"event_name": name, **_actor(random)}
    if random.random() < 0.9:
        arguments["event_id"] = f"demo-{number:06d}"
    if random.random() < 0.9:
        arguments["timestamp"] = _timestamp(random, now)
    shape = random.random()
    if shape < 0.01:  # kept under $raw and flagged
        properties, is_valid = random.choice([["a", "list"], "not JSON at all", 42]), False
    elif shape < 0.2:  # as the specification's own example sends it
        properties = json.dumps(properties, ensure_ascii=random.random() < 0.5)
    arguments["properties"] = properties
    return PlannedEvent(arguments, "valid" if is_valid else "invalid")


def _no_event(random: Random) -> PlannedEvent:
    arguments = random.choice(
        [
            {"event_name": "page_view"},
            {"event_name": "", "user_id": "user_1"},
            {"event_name": "n" * 201, "user_id": "user_1"},
            {"event_name": "page_view", "user_id": "u" * 256},
        ]
    )
    return PlannedEvent(arguments, "refused")


def _actor(random: Random) -> dict[str, str]:
    user, visitor = f"user_{random.randint(1, 400)}", f"anon-{random.randint(1, 900):x}"
    kind = random.random()
    if kind < 0.5:
        return {"user_id": user}
    return {"anonymous_id": visitor} if kind < 0.8 else {"user_id": user, "anonymous_id": visitor}


def _timestamp(random: Random, now: datetime) -> str:
    """Within the last days, written in one of the ways that clients write it."""
    at = now - timedelta(seconds=random.uniform(0, DAYS_BACK * 86_400))
    style = random.random()
    if style < 0.6:
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    if style < 0.8:
        return at.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _properties(random: Random) -> dict[str, Any]:
    return {
        "page": random.choice(_PAGES),
        "referrer": random.choice(_REFERRERS),
        "text": random.choice(_WORDS),
        "durationMs": random.randint(1, 90_000),
        "device": {"os": random.choice(["iOS", "Android", "Linux"]), "screen": {"w": 390, "h": 844}},
        "tags": random.sample(["a", "b", "c", "d"], random.randint(0, 3)),
    }


def _purchase(random: Random, number: int) -> tuple[dict[str, Any], bool]:
    """An order, and whether it keeps the schema of `purchase`."""
    order: dict[str, Any] = {"orderId": f"A-{number}", "amount": round(random.uniform(1, 500), 2), "currency": "EUR"}
    if random.random() < 0.75:
        return order | {"items": random.randint(1, 9)}, True
    wrong = random.choice(["amount", "currency", "items", "orderId"])
    if wrong == "orderId":
        del order["orderId"]
        return order, False
    return order | {wrong: {"amount": -1, "currency": "euros", "items": "two"}[wrong]}, False
