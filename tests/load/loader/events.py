"""Makes a year of events by seed: rows for PostgreSQL's binary COPY, and the counts of these events.

Months are made independently of each other, in the order of their events' times, as the projector would have written
them. An event is 300 bytes as an SDK sends it, like those of `tests.load.measure`.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from random import Random
from uuid import UUID

from tests.load.measure import PROPERTIES

COLUMNS = (
    "partner_system_id", "id", "partner_id", "partner_name", "system_name", "event_name", "event_timestamp",
    "original_timestamp", "received_at", "user_id", "anonymous_id", "message_id", "event_properties", "schema_version",
    "is_valid", "validation_errors", "clock_adjusted", "correlation_id", "processed_at", "event_type", "context",
    "is_bot",
)  # fmt: skip
NAMES = (
    "page_view", "button_click", "product_viewed", "search", "scroll_depth", "product_added", "video_played",
    "form_submit", "cart_viewed", "checkout_started", "login", "coupon_applied", "order_completed", "share",
    "newsletter_subscribed", "review_written", "signup", "support_requested", "order_refunded", "account_deleted",
)  # fmt: skip
PARTNER_NAME = "Acme Corp"
SYSTEM_NAMES = ("Acme Website", "Acme iOS", "Acme Android", "Acme Backend", "Acme Kiosk")
EVENTS_A_REQUEST = 20
EVENTS_A_VISITOR = 50
COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
COPY_TRAILER = b"\xff\xff"
# of 256: the first system has 90 %, each of the others 2.5 %
_OF_FIRST_SYSTEM = 230
_SIGNED_IN, _INVALID, _BOTS = 170, 8, 3
_ERRORS = [{"code": "type", "path": "/price", "schemaPath": "#/properties/price/type", "message": "must be number"}]
_HOUR_MS = 3_600_000
_POSTGRES_EPOCH_MS = 946_684_800_000
_BLOCK_EVENTS = 2_000
# of an event: id, visitor, moment within its step, page, price, name, signed in, valid, bot
_DICE = struct.Struct(">10sIHHHBBBB")
_LOW_62_BITS = (1 << 62) - 1
# (system, hour since 1970, name, kind), numbers in the order of SYSTEM_NAMES and NAMES; kind as in the columns
Counts = dict[tuple[int, int, int, int], int]


def _names_by_die() -> bytes:
    """For each of 256 throws a number of a name; the second is half as frequent as the first, the third a third."""
    weights = [1 / rank for rank in range(1, len(NAMES) + 1)]
    bounds = [sum(weights[: n + 1]) / sum(weights) * 256 for n in range(len(NAMES))]
    return bytes(next(n for n, bound in enumerate(bounds) if die < bound + 1e-9) for die in range(256))


def _dice(seed: str) -> Random:
    return Random(seed)  # noqa: S311 the same every time is what is wanted


@dataclass(frozen=True)
class Year:
    """How many events, in which year, and the seed: two that are equal make the same."""

    events: int
    seed: int = 1
    year: int = 2025

    @cached_property
    def partner_id(self) -> UUID:
        """Of all systems."""
        return UUID(int=_dice(f"{self.seed} partner").getrandbits(128), version=4)

    @cached_property
    def system_ids(self) -> tuple[UUID, ...]:
        """In the order of SYSTEM_NAMES; the first sends nine tenths."""
        dice = _dice(f"{self.seed} systems")
        return tuple(UUID(int=dice.getrandbits(128), version=4) for _ in SYSTEM_NAMES)

    @property
    def visitors(self) -> int:
        """How many there are."""
        return max(1, self.events // EVENTS_A_VISITOR)

    @property
    def start(self) -> datetime:
        """Its first moment."""
        return datetime(self.year, 1, 1, tzinfo=UTC)

    @property
    def stop(self) -> datetime:
        """The first moment after it."""
        return datetime(self.year + 1, 1, 1, tzinfo=UTC)

    @property
    def months(self) -> list[date]:
        """First days."""
        return [date(self.year, month, 1) for month in range(1, 13)]

    def month(self, month: date) -> "Month":
        """Its events."""
        return Month(self, month)


@dataclass
class Month:
    """The events of a month; `counts` are complete when `blocks` has ended."""

    year: Year
    month: date
    counts: Counts = field(default_factory=dict)

    @cached_property
    def numbers(self) -> range:
        """Which of the year's events these are."""
        return range(self._first(self.month), self._first(_next(self.month)))

    def _first(self, month: date) -> int:
        start, span = _ms(self.year.start), _ms(self.year.stop) - _ms(self.year.start)
        return -(-(_midnight_ms(month) - start) * self.year.events // span)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """(number of events, their rows), some hundred kilobytes at a time."""
        dice = _dice(f"{self.year.seed} {self.month}")
        templates = _Templates(self.year)
        numbers = self.numbers
        for start in range(numbers.start, numbers.stop, _BLOCK_EVENTS):
            block = range(start, min(start + _BLOCK_EVENTS, numbers.stop))
            yield len(block), b"".join(self._rows(dice, templates, block))

    def _rows(self, dice: Random, templates: "_Templates", block: range) -> Iterator[bytes]:
        first_ms, span_ms = _ms(self.year.start), _ms(self.year.stop) - _ms(self.year.start)
        last_ms = _midnight_ms(_next(self.month)) - 1
        steps, visitors, names = self.year.events << 16, self.year.visitors, _names_by_die()
        counts, moment = self.counts, struct.Struct(">q").pack
        thrown = _DICE.iter_unpack(dice.randbytes(_DICE.size * len(block)))
        system, request = 0, b""
        for n, (id_bits, visitor, within, page, price, name_die, user, wrong, robot) in zip(block, thrown, strict=True):
            if (n - block.start) % EVENTS_A_REQUEST == 0:
                die = dice.getrandbits(8)
                system = 0 if die < _OF_FIRST_SYSTEM else 1 + die % (len(SYSTEM_NAMES) - 1)
                request = b"%032x" % dice.getrandbits(128)
            # in each step of the year one event, somewhere within it
            at_ms = min(first_ms + ((n << 16) + within) * span_ms // steps, last_ms)
            name, is_valid, is_bot = names[name_die], wrong >= _INVALID, robot < _BOTS
            key = (system, at_ms // _HOUR_MS, name, 2 * is_bot + (not is_valid))
            counts[key] = counts.get(key, 0) + 1
            at = moment((at_ms - _POSTGRES_EPOCH_MS) * 1000)
            received = moment((at_ms - _POSTGRES_EPOCH_MS) * 1000 + 80_000 + within)
            processed = moment((at_ms - _POSTGRES_EPOCH_MS) * 1000 + 400_000 + within)
            visitor_number = visitor % visitors
            values = (_uuid7(at_ms, id_bits), at, at, received, visitor_number)
            rest = (1000 + page % 9000, 10 + price % 90, price % 10, request, processed)
            if user < _SIGNED_IN:
                yield templates.of(system, name, True, is_valid, is_bot) % (*values, visitor_number, *rest)
            else:
                yield templates.of(system, name, False, is_valid, is_bot) % (*values, *rest)


def _uuid7(unix_ms: int, bits: bytes) -> bytes:
    high, low = int.from_bytes(bits[:2], "big"), int.from_bytes(bits[2:], "big")
    return struct.pack(">IHHQ", unix_ms >> 16, unix_ms & 0xFFFF, 0x7000 | high & 0xFFF, 1 << 63 | low & _LOW_62_BITS)


class _Templates:
    """Rows of binary COPY with a place for each value that differs; all values of a place are equally long."""

    def __init__(self, year: Year) -> None:
        self._year = year
        self._made: dict[tuple[int, int, bool, bool, bool], bytes] = {}

    def of(self, system: int, name: int, is_signed_in: bool, is_valid: bool, is_bot: bool) -> bytes:
        """For `%` with: id, three times, visitor, again if it is signed in, page, price, dime, request, time."""
        key = (system, name, is_signed_in, is_valid, is_bot)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(*key)
        return made

    def _make(self, system: int, name: int, is_signed_in: bool, is_valid: bool, is_bot: bool) -> bytes:
        properties = json.dumps(PROPERTIES).replace('"/products/42"', '"/products/%04d"').replace("49.9", "%02d.%d")
        given = {
            "partner_system_id": _value(self._year.system_ids[system].bytes),
            "id": _place(b"%b", 16),
            "partner_id": _value(self._year.partner_id.bytes),
            "partner_name": _value(PARTNER_NAME.encode()),
            "system_name": _value(SYSTEM_NAMES[system].encode()),
            "event_name": _value(NAMES[name].encode()),
            "event_timestamp": _place(b"%b", 8),
            "original_timestamp": _place(b"%b", 8),
            "received_at": _place(b"%b", 8),
            "anonymous_id": _place(b"anon_%08d", 13),
            "event_properties": _place(b"\x01" + properties.encode(), len(properties) + 1 - len("%04d%02d%d") + 7),
            "is_valid": _value(bytes([is_valid])),
            "clock_adjusted": _value(b"\x00"),
            "correlation_id": _place(b"%b", 32),
            "processed_at": _place(b"%b", 8),
            "is_bot": _value(bytes([is_bot])),
        }
        if is_signed_in:
            given["user_id"] = _place(b"user_%08d", 13)
        if not is_valid:
            given["validation_errors"] = _value(b"\x01" + json.dumps(_ERRORS).encode())
        null = struct.pack(">i", -1)
        return struct.pack(">h", len(COLUMNS)) + b"".join(given.get(column, null) for column in COLUMNS)


def _place(text: bytes, length: int) -> bytes:
    return struct.pack(">i", length).replace(b"%", b"%%") + text


def _value(data: bytes) -> bytes:
    return (struct.pack(">i", len(data)) + data).replace(b"%", b"%%")


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def _midnight_ms(day: date) -> int:
    return _ms(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000
