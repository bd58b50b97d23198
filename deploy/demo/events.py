"""What a run sends: events as real clients make them, each with what should become of it. No IO; one seed, one plan."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, Literal

from deploy.local.first_partner import EVENT_NAME as PURCHASE

Fate = Literal["valid", "invalid", "refused"]
DAYS_BACK = 3
MAX_BATCH = 200
_WEIGHTS = {"page_view": 50, "button_click": 20, PURCHASE: 12, "search": 8, "form_submit": 5, "Đăng ký ✓": 3, "ping": 2}
_PAGES = ("/", "/pricing", "/docs/getting-started", "/blog/2025/12", "/giỏ-hàng", "/プラン")
_REFERRERS = ("google.com", "news.ycombinator.com", None, "t.co")
_WORDS = ("laptop", "cà phê", "naïve café", "Привет", "こんにちは", "🎄 gift", "a\tb\n", 'say "hi"')


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """An envelope for the gateway; `is_repeat` if another request carries the same one."""

    envelope: dict[str, Any]
    fate: Fate
    is_repeat: bool = False

    @property
    def has_id(self) -> bool:
        """Whether sending it again is harmless."""
        return "eventId" in self.envelope


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request: a single event or a batch of them."""

    events: tuple[PlannedEvent, ...]
    is_batch: bool
    key_in_header: bool

    @property
    def is_repeatable(self) -> bool:
        """Whether the gateway would recognise all of it if it came again."""
        return all(event.has_id or event.fate == "refused" for event in self.events)


@dataclass(frozen=True, slots=True)
class Plan:
    """All requests of a run, and the sums that must come out."""

    requests: tuple[PlannedRequest, ...]

    @property
    def stored(self) -> tuple[PlannedEvent, ...]:
        """Every event that should be stored, once each."""
        return tuple(event for event in self._events() if event.fate != "refused" and not event.is_repeat)

    @property
    def sent(self) -> int:
        """How many events the requests carry in all."""
        return sum(len(request.events) for request in self.requests)

    @property
    def repeats(self) -> int:
        """How many of them are carried a second time."""
        return sum(event.is_repeat for event in self._events())

    @property
    def refused(self) -> int:
        """How many are no events at all."""
        return sum(event.fate == "refused" for event in self._events())

    def counts(self) -> dict[str, int]:
        """`{event name: how many are stored}`."""
        return dict(Counter(event.envelope["eventName"] for event in self.stored))

    def invalid(self) -> int:
        """How many are stored with isValid=false."""
        return sum(event.fate == "invalid" for event in self.stored)

    def _events(self) -> Iterator[PlannedEvent]:
        return (event for request in self.requests for event in request.events)


def plan(count: int, seed: int, now: datetime) -> Plan:
    """`count` events to be stored; beside them one in 50 comes twice, and one in 200 is no event.

    One event in ten travels alone, and a quarter of those has no id of its own; the others come in batches.
    """
    random = Random(seed)  # noqa: S311 - made to be repeated
    alone = max(1, count // 10)
    events = [_event(random, now, number) for number in range(count)]
    singles = [_without_id(event) if random.random() < 0.25 else event for event in events[:alone]]
    grouped = [*events[alone:], *(_no_event(random) for _ in range(count // 200))]
    twice = random.sample(grouped[: len(events) - alone], min(count // 50, len(events) - alone))
    grouped += [PlannedEvent(event.envelope, event.fate, is_repeat=True) for event in twice]
    random.shuffle(grouped)
    requests = [PlannedRequest((event,), is_batch=False, key_in_header=random.random() < 0.5) for event in singles]
    while grouped:
        size = random.randint(1, MAX_BATCH)
        part, grouped = grouped[:size], grouped[size:]
        requests.append(PlannedRequest(tuple(part), is_batch=True, key_in_header=random.random() < 0.5))
    random.shuffle(requests)
    return Plan(tuple(requests))


def _event(random: Random, now: datetime, number: int) -> PlannedEvent:
    name = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    properties: Any
    properties, is_valid = _purchase(random, number) if name == PURCHASE else (_properties(random), True)
    envelope: dict[str, Any] = {"eventName": name, "eventId": f"demo-{number:06d}", **_actor(random)}
    if random.random() < 0.9:
        envelope["eventTimestamp"] = _timestamp(random, now)
    shape = random.random()
    if shape < 0.01:  # kept under $raw and flagged
        properties, is_valid = random.choice([["a", "list"], "not JSON at all", 42]), False
    elif shape < 0.2:  # as the specification's own example sends it
        properties = json.dumps(properties, ensure_ascii=random.random() < 0.5)
    envelope["eventProperties"] = properties
    return PlannedEvent(envelope, "valid" if is_valid else "invalid")


def _without_id(event: PlannedEvent) -> PlannedEvent:
    envelope = {name: value for name, value in event.envelope.items() if name != "eventId"}
    return PlannedEvent(envelope, event.fate)


def _no_event(random: Random) -> PlannedEvent:
    envelope = random.choice(
        [
            {"eventName": "page_view"},
            {"userId": "user_1"},
            {"eventName": "n" * 201, "userId": "user_1"},
            {"eventName": "page_view", "userId": "user_1", "eventTimestamp": "yesterday"},
        ]
    )
    return PlannedEvent(envelope, "refused")


def _actor(random: Random) -> dict[str, str]:
    user, visitor = f"user_{random.randint(1, 400)}", f"anon-{random.randint(1, 900):x}"
    kind = random.random()
    if kind < 0.5:
        return {"userId": user}
    return {"anonymousId": visitor} if kind < 0.8 else {"userId": user, "anonymousId": visitor}


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
