"""The size of an event in a message is counted in full, whichever of its fields the bytes are in."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import orjson
import pytest

from services.gateway.commit.micro_batch import MAX_MESSAGE_BYTES, split_into_messages
from tests.support.events import an_event
from tracking.contracts.events_tracked import SystemContext, count_bytes, encode
from tracking.domain.tracking_event import TrackingEvent

SYSTEM = SystemContext(UUID(int=1), "Website", UUID(int=2), "Acme")
AT = datetime(2025, 12, 24, 10, 30, 0, 123456, UTC)
RABBITMQ_4_MAX_BYTES = 16 * 1024 * 1024
TEXTS = ["event_name", "user_id", "anonymous_id", "message_id", "correlation_id"]
JSON = ["event_properties", "validation_errors", "context"]


def encoded_bytes(*events: TrackingEvent) -> int:
    """Return the size of a message with the events."""
    return len(encode(UUID(int=9), AT, [SYSTEM], events))


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_a_text_counts_as_its_bytes_in_utf_8(field: str, letter: str) -> None:
    short = an_event(UUID(int=1), UUID(int=10), **{field: ""})
    long = an_event(UUID(int=1), UUID(int=10), **{field: letter * 100})

    assert count_bytes(long) - count_bytes(short) == 100 * len(letter.encode())


@pytest.mark.parametrize("field", JSON)
def test_a_json_text_counts_as_its_bytes(field: str) -> None:
    small = an_event(UUID(int=1), UUID(int=10), **{field: b"{}"})
    large = an_event(UUID(int=1), UUID(int=10), **{field: b'{"a":"%b"}' % (b"x" * 32_000)})

    assert count_bytes(large) - count_bytes(small) == 32_006


def test_an_event_with_every_field_takes_no_more_than_is_counted() -> None:
    event = an_event(
        UUID(int=1),
        uuid4(),
        event_timestamp=AT,
        original_timestamp=AT,
        sent_at=AT,
        received_at=AT,
        user_id="u" * 255,
        anonymous_id="a" * 255,
        message_id="m" * 100,
        event_properties=b"{}",
        schema_version=2**31 - 1,
        is_valid=False,
        validation_errors=b"[]",
        clock_adjusted=True,
        event_type="identify",
        context=b"{}",
        is_bot=True,
    )

    for_one_more = encoded_bytes(*[event] * 1_000) - encoded_bytes(*[event] * 999)

    assert for_one_more <= count_bytes(event)


def test_no_message_of_several_events_reaches_the_limit_of_rabbitmq_4_whatever_has_to_be_escaped() -> None:
    hostile = [
        an_event(UUID(int=1), uuid4(), event_name="\x01" * 200, user_id="\x01" * 255, anonymous_id="\x02" * 255),
        an_event(UUID(int=1), uuid4(), event_properties=orjson.dumps({"q": '"\\' * 7_000})),
        an_event(UUID(int=1), uuid4(), context=orjson.dumps({"q": "\x01" * 5_000})),
        an_event(UUID(int=1), uuid4(), event_name="😀" * 200, message_id="😀" * 100),
    ]

    for event in hostile:
        parts = list(split_into_messages([event] * 2_500))

        assert sum(len(part) for _, part, _ in parts) == 2_500
        assert all(size_bytes <= MAX_MESSAGE_BYTES for _, _, size_bytes in parts)
        assert max(encoded_bytes(*part) for _, part, _ in parts) <= 6 * MAX_MESSAGE_BYTES < RABBITMQ_4_MAX_BYTES
