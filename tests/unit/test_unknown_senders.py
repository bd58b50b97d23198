"""The limits of senders whose key is not known, and the keys that are found in a body without parsing it."""

import json

import pytest

from services.gateway.http import unknown_senders
from services.gateway.http.unknown_senders import UnknownSenders, find_keys_in_body
from tracking.domain.errors import Unavailable

MIB = 1024 * 1024


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def monotonic(self) -> float:
        """As of the module `time`."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the allowances."""
    clock = Clock()
    monkeypatch.setattr(unknown_senders, "time", clock)
    return clock


def the_senders() -> UnknownSenders:
    """With 32 MiB for bodies in progress, 8 MiB of them by address, and 20 MiB to spend at once, 40 MiB in all."""
    return UnknownSenders(bodies_bytes=128 * MIB, body_bytes=5 * MIB, inflated_bytes=20 * MIB)


def spend_all(senders: UnknownSenders, address: str | None, *, most: int = 1_000) -> int:
    """How many MiB an address can spend at this moment."""
    for spent in range(most):
        try:
            senders.admit(address).spend(MIB)
        except Unavailable:
            return spent
    return most


# the piece that crosses the limit is begun before it
def test_an_address_may_spend_its_share_and_gets_it_back_with_time(clock: Clock) -> None:
    senders = the_senders()

    assert spend_all(senders, "203.0.113.7") == 21
    assert senders.is_under_pressure
    clock.now_s += 3
    assert spend_all(senders, "203.0.113.7") in (5, 6)
    clock.now_s += 1_000
    assert spend_all(senders, "203.0.113.7") == 21


def test_all_addresses_together_have_a_limit_too(clock: Clock) -> None:
    senders = the_senders()

    assert [spend_all(senders, f"203.0.113.{number}") for number in range(4)] == [21, 20, 0, 0]
    clock.now_s += 1
    assert spend_all(senders, "203.0.113.9") in (7, 8)


@pytest.mark.parametrize(
    ("first", "second", "is_shared"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("203.0.113.7", "203.0.113.8", False),
        (None, None, True),
    ],
)
def test_a_network_of_ipv6_is_one_sender(clock: Clock, first: str | None, second: str | None, is_shared: bool) -> None:
    senders = the_senders()
    spend_all(senders, first)

    assert (spend_all(senders, second) == 0) is is_shared


def test_what_was_spent_on_a_known_sender_is_given_back(clock: Clock) -> None:
    senders = the_senders()

    for _ in range(100):
        sender = senders.admit("203.0.113.7")
        sender.spend(10 * MIB)
        sender.refund()

    assert spend_all(senders, "203.0.113.7") == 21


def test_bodies_in_progress_are_bounded_by_address_and_in_all() -> None:
    senders = the_senders()
    by_address: list[int] = []
    for number in range(6):
        count = 0
        try:
            while True:
                senders.admit(f"203.0.113.{number}").budget.reserve(MIB)
                count += 1
        except Unavailable:
            by_address.append(count)

    assert by_address == [8, 8, 8, 8, 0, 0]
    senders.admit("203.0.113.0").budget.release(8 * MIB)
    senders.admit("203.0.113.9").budget.reserve(8 * MIB)


def test_addresses_that_do_nothing_are_forgotten() -> None:
    senders = the_senders()
    busy = senders.admit("198.51.100.1").budget
    busy.reserve(8 * MIB)

    for number in range(25_000):
        senders.admit(f"10.0.{number // 256}.{number % 256}")

    with pytest.raises(Unavailable):
        senders.admit("198.51.100.1").budget.reserve(1)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('{"apiKey": "k1", "events": []}', ["k1"]),
        ('{"batch": [], "writeKey" : "k1"}', ["k1"]),
        ('{"apiKey": "k1", "events": [{"apiKey": "k2"}, {"apiKey": "k3"}]}', ["k1", "k3"]),
        ('{"events": [{"properties": {"apiKey": "k2"}}], "apiKey": "k1", "writeKey": "k4"}', ["k2", "k1", "k4"]),
        ('{"apiKey": 5, "writeKey": null}', []),
        ('{"apiKey": "k' + "1" * 300 + '"}', []),
        ('{"apiKey":', []),
        ('{"apiKey"', []),
        ("", []),
    ],
)
def test_the_first_and_the_last_key_of_a_body_are_found(body: str, found: list[str]) -> None:
    assert sorted(find_keys_in_body(body.encode())) == sorted(found)


def test_bytes_that_are_no_text_are_searched_too() -> None:
    assert find_keys_in_body(b'\xff\x00{"apiKey": "\xff"}') == ["\xff"]
    assert find_keys_in_body(json.dumps({"apiKey": "k"}).encode("utf-16")) == []
