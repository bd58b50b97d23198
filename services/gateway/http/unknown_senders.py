"""Bounds what senders cost while it is not known who they are: by address, and for all of them together.

A key in a header or in the query is checked before the body is read. Only where it stands in the body alone does a
request cost something before that: memory while the body arrives, and processor time to decompress it and to look for
the key in it. Both have limits of their own here, so such requests take nothing that known senders need. What was spent
on a sender who turns out to be known is given back.
"""

import math
import re
import time
from collections.abc import Iterator
from ipaddress import ip_network

from services.gateway.http.request import BodyBudget
from tracking.domain.errors import Unavailable
from tracking.infra import metrics

_SHARE_OF_BODIES = 4
_ADDRESS_SHARE = 4
_MAX_ADDRESSES = 10_000
_BYTES_A_SECOND = 8 * 1024 * 1024
_ADDRESS_BYTES_A_SECOND = 2 * 1024 * 1024
_NAMES = (b'"apiKey"', b'"writeKey"')
_VALUE = re.compile(rb'\s*:\s*"([^"\\]{0,200})"')


def find_keys_in_body(body: bytes) -> list[str]:
    """Return the first and the last value of `apiKey` and `writeKey` in a body that is not parsed.

    They may stand anywhere in it, so they only say whether it is worth parsing. Names with escapes are not found.
    """
    found: dict[str, None] = {}
    for name in _NAMES:
        for position in {body.find(name), body.rfind(name)} - {-1}:
            value = _VALUE.match(body, position + len(name))
            if value is not None:
                found[value[1].decode("latin-1")] = None
    return list(found)


def _group(address: str | None) -> str | None:
    # a sender has a whole /64 of IPv6
    return str(ip_network((address, 64), strict=False)) if address is not None and ":" in address else address


class _Allowance:
    """A token bucket of bytes. What is taken beyond it is a debt, and nothing more is given until it is paid."""

    __slots__ = ("_at", "_burst", "_bytes", "_rate")

    def __init__(self, rate: int, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._bytes = float(burst)
        self._at = time.monotonic()

    def take(self, size: int) -> None:
        self._bytes -= size

    def give_back(self, size: int) -> None:
        self._bytes = min(self._burst, self._bytes + size)

    def get_wait_s(self) -> float:
        """Seconds until something may be taken; 0 if it may be now."""
        now = time.monotonic()
        self._bytes = min(self._burst, self._bytes + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, -self._bytes / self._rate)

    @property
    def is_full(self) -> bool:
        self.get_wait_s()
        return self._bytes >= self._burst


class UnknownSender:
    """A request of a sender who is not known; `budget` is for the memory of its body."""

    __slots__ = ("_allowances", "_limits", "_spent", "budget")

    def __init__(self, budget: BodyBudget, allowances: tuple[_Allowance, _Allowance], limits: "UnknownSenders") -> None:
        self.budget = budget
        self._allowances = allowances
        self._limits = limits
        self._spent = 0

    def spend(self, size: int) -> None:
        """Take note of bytes that are decompressed or parsed. Raises Unavailable if there were too many before."""
        wait_s = max(allowance.get_wait_s() for allowance in self._allowances)
        self._limits.is_under_pressure = wait_s > 0
        if wait_s > 0:
            raise Unavailable(
                "overloaded",
                "Too many bodies with an unknown key or none are under way; send the key in the header X-Api-Key.",
                max(1, math.ceil(wait_s)),
            )
        for allowance in self._allowances:
            allowance.take(size)
        self._spent += size
        metrics.unknown_sender_bytes.inc(size)

    def refund(self) -> None:
        """The sender is known: give back what was spent."""
        for allowance in self._allowances:
            allowance.give_back(self._spent)
        self._spent = 0


class UnknownSenders:
    """The limits of all unknown senders, and of each address."""

    def __init__(self, *, bodies_bytes: int, body_bytes: int, inflated_bytes: int) -> None:
        """One request of the largest size is always admitted if there is no other."""
        total = max(bodies_bytes // _SHARE_OF_BODIES, body_bytes)
        self._budget = BodyBudget(total)
        self._address_bytes = max(total // _ADDRESS_SHARE, body_bytes)
        self._burst = inflated_bytes
        self._allowance = _Allowance(_BYTES_A_SECOND, 2 * inflated_bytes)
        self._addresses: dict[str | None, tuple[BodyBudget, _Allowance]] = {}
        # Whether the last request found the limit reached; then the fast path looks before it parses.
        self.is_under_pressure = False

    def admit(self, address: str | None) -> UnknownSender:
        """Begin a request of this address. All whose address is unknown share one, as does a /64 of IPv6."""
        address = _group(address)
        known = self._addresses.get(address)
        if known is None:
            if len(self._addresses) >= _MAX_ADDRESSES:
                self._forget_idle()
            allowance = _Allowance(_ADDRESS_BYTES_A_SECOND, self._burst)
            known = self._addresses[address] = (BodyBudget(self._address_bytes, within=self._budget), allowance)
        return UnknownSender(known[0], (known[1], self._allowance), self)

    def _forget_idle(self) -> None:
        busy = list(self._list_busy())
        # if all are busy the limit of all senders together is reached long since, and it stays
        self._addresses = dict(busy[-_MAX_ADDRESSES // 2 :])

    def _list_busy(self) -> Iterator[tuple[str | None, tuple[BodyBudget, _Allowance]]]:
        for address, (budget, allowance) in self._addresses.items():
            if not (budget.is_unused and allowance.is_full):
                yield address, (budget, allowance)
