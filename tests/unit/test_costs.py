"""The cost of an event in function calls and in blocks of memory. The numbers are those of today.

Calls are those of Python and of C (sys.setprofile): the same each time, unlike milliseconds. A ceiling is a few
hundredths above what Python 3.11 makes.
"""

import gc
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import getrandbits
from typing import cast
from uuid import UUID

import pytest

from services.gateway.events import decode
from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.structure_index import StructureIndex
from services.projector.project import to_columns
from services.statistics.aggregate import count_events
from tests.support.wire_counter import CallCounter
from tracking.contracts import events_tracked
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import copy_binary
from tracking.tables.event_columns import READ_ENCODERS, WRITE_ENCODERS

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
KEY = ApiKeyEntry(UUID(int=1), None, None, UUID(int=7), "Site", True, UUID(int=2), "Acme", True)
# nothing is registered
STRUCTURES = StructureIndex()
FEW, MANY = 200, 400


def a_batch(events: int) -> bytes:
    """As SDKs send them: about 300 bytes each."""
    return json.dumps(
        {
            "events": [
                {
                    "eventName": f"name_{n % 7}",
                    "eventTimestamp": f"2026-11-23T07:{n // 60 % 60:02}:{n % 60:02}.123Z",
                    "userId": f"user_{n // 5}",
                    "anonymousId": f"visitor_{n // 5}",
                    "eventProperties": {"page": f"/products/{n}", "price": 49.9 + n, "tags": ["new", "sale"]},
                }
                for n in range(events)
            ]
        }
    ).encode()


def decided(body: bytes) -> list[TrackingEvent]:
    sender = IngestContext(KEY, NOW, to_unix_ms(NOW), "c-1", 65_536)
    envelopes = decode.decode_batch(body).envelopes
    events = [decide(envelope, sender, STRUCTURES, getrandbits(74), n) for n, envelope in enumerate(envelopes)]
    assert all(isinstance(event, TrackingEvent) for event in events)
    return cast(list[TrackingEvent], events)


def a_message(events: int) -> bytes:
    return events_tracked.encode(UUID(int=9), NOW, [KEY], decided(a_batch(events)))


def decide_all(number: int) -> Callable[[], object]:
    body = a_batch(number)
    return lambda: decided(body)


def encode_for_the_write_database(number: int) -> Callable[[], object]:
    events = decided(a_batch(number))
    return lambda: copy_binary.encode_rows(WRITE_ENCODERS.values(), list(zip(*events, strict=True)))


def encode_the_message(number: int) -> Callable[[], object]:
    events = decided(a_batch(number))
    return lambda: events_tracked.encode(UUID(int=9), NOW, [KEY], events)


def decode_the_message(number: int) -> Callable[[], object]:
    body = a_message(number)
    return lambda: events_tracked.decode(body)


def encode_for_the_read_model(number: int) -> Callable[[], object]:
    batch = events_tracked.decode(a_message(number))
    return lambda: copy_binary.encode_rows(READ_ENCODERS.values(), to_columns(batch, NOW))


def count_for_the_rollup(number: int) -> Callable[[], object]:
    batch = events_tracked.decode(a_message(number))
    return lambda: count_events([batch])


@pytest.mark.parametrize(
    ("work", "most"),
    [
        (decide_all, 50),
        (encode_for_the_write_database, 19),
        (encode_the_message, 1.1),
        (decode_the_message, 0.1),
        (encode_for_the_read_model, 23),
        (count_for_the_rollup, 1.1),
    ],
)
def test_an_event_more_costs_no_more_calls_than_before(
    work: Callable[[int], Callable[[], object]], most: float
) -> None:
    few, many = work(FEW), work(MANY)
    few(), many()

    with CallCounter() as calls_of_few:
        few()
    with CallCounter() as calls_of_many:
        many()

    calls = (calls_of_many.number - calls_of_few.number) / (MANY - FEW)
    assert calls <= most, f"{work.__name__}: {calls:.1f} calls an event, where {most} were enough before"


@dataclass(frozen=True, slots=True)
class Blocks:
    """Of memory: those a result holds; objects in cycles that are left when it has gone; blocks after those."""

    held: int
    in_cycles: int
    left: int


def blocks_of(work: Callable[[], object]) -> Blocks:
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        result = work()
        held = sys.getallocatedblocks() - before
        del result
        # it empties the lists of spare objects too, as the first one did
        in_cycles = gc.collect()
        return Blocks(held, in_cycles, sys.getallocatedblocks() - before)
    finally:
        gc.enable()


@pytest.mark.parametrize(("work", "most"), [(decide_all, 9.5), (decode_the_message, 9.7)])
def test_an_event_holds_no_more_memory_than_before_and_leaves_none(
    work: Callable[[int], Callable[[], object]], most: float
) -> None:
    few, many = work(FEW), work(MANY)
    few(), many()

    small, large = blocks_of(few), blocks_of(many)

    held = (large.held - small.held) / (MANY - FEW)
    assert held <= most, f"{work.__name__}: {held:.1f} blocks an event, where {most} were enough before"
    assert large.in_cycles == 0, f"{work.__name__}: {large.in_cycles} objects in cycles wait for the collector"
    assert large.left <= 20, f"{work.__name__}: {large.left} blocks are left after {MANY} events"
