"""Ids of events, and clocks: the rules that make a retry harmless. Texts of times are in `test_times.py`."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.domain.ids import derive_dated_id, get_previous_id, get_usable_unix_ms, make_lowest_id, make_uuid7
from tracking.domain.timestamps import correct_clock_skew

SYSTEM, OTHER_SYSTEM = UUID(int=1), UUID(int=2)
NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)


def test_a_fresh_id_is_a_version_7_uuid_that_starts_with_its_time() -> None:
    made = make_uuid7(0x0123456789AB, (1 << 80) - 1)

    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.hex[:12] == "0123456789ab"


@given(client_id=st.text(min_size=1, max_size=100), ms=st.integers(946_684_800_000, 4_102_444_799_999))
def test_a_retry_makes_the_same_id_in_the_same_partition(client_id: str, ms: int) -> None:
    original = datetime.fromtimestamp(ms // 1000, UTC) + timedelta(milliseconds=ms % 1000)

    first, again = (derive_dated_id(SYSTEM, client_id, original) for _ in range(2))

    assert first == again
    assert first.version == 8
    assert first.int >> 80 == ms


@given(st.text(min_size=1, max_size=100), st.text(min_size=1, max_size=100))
def test_two_client_ids_make_two_ids(one: str, other: str) -> None:
    same = derive_dated_id(SYSTEM, one, NOON) == derive_dated_id(SYSTEM, other, NOON)

    assert same == (one == other)


def test_the_same_client_id_of_two_systems_makes_two_ids() -> None:
    assert derive_dated_id(SYSTEM, "a", NOON) != derive_dated_id(OTHER_SYSTEM, "a", NOON)


def test_the_client_id_is_not_mixed_up_with_the_system() -> None:
    shifted = derive_dated_id(UUID(bytes=SYSTEM.bytes[1:] + b"a"), "b", NOON)

    assert shifted != derive_dated_id(SYSTEM, "ab", NOON)


@pytest.mark.parametrize(
    "original",
    [None, datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)],
)
def test_a_time_that_cannot_be_trusted_gives_zero_time_bits(original: datetime | None) -> None:
    assert get_usable_unix_ms(original) == 0
    assert derive_dated_id(SYSTEM, "a", original).int >> 80 == 0


def test_the_first_id_of_a_moment_is_below_every_id_of_it() -> None:
    ms = int(NOON.timestamp() * 1000)

    assert make_lowest_id(NOON) < make_uuid7(ms, 0)
    assert make_lowest_id(NOON) > make_uuid7(ms - 1, (1 << 80) - 1)


def test_without_a_client_time_the_server_decides() -> None:
    assert correct_clock_skew(None, NOON, NOON) == (NOON, False)


def test_a_client_clock_within_a_minute_is_believed() -> None:
    original = NOON - timedelta(hours=5)

    assert correct_clock_skew(original, NOON - timedelta(seconds=60), NOON) == (original, False)


def test_a_client_clock_that_is_off_keeps_its_distances() -> None:
    wrong_by = timedelta(days=400)

    corrected = correct_clock_skew(NOON - wrong_by - timedelta(hours=1), NOON - wrong_by, NOON)

    assert corrected == (NOON - timedelta(hours=1), True)


def test_a_clock_that_sent_before_the_event_proves_nothing() -> None:
    for original in (NOON, NOON - timedelta(hours=5)):
        assert correct_clock_skew(original, original - timedelta(microseconds=1), NOON) == (original, False)


def test_a_time_far_ahead_is_clamped_to_the_receive_time() -> None:
    assert correct_clock_skew(NOON + timedelta(hours=23), None, NOON) == (NOON + timedelta(hours=23), False)
    assert correct_clock_skew(NOON + timedelta(hours=23, seconds=1), None, NOON) == (NOON, True)


@given(
    original=st.datetimes(timezones=st.just(UTC)),
    sent_at=st.none() | st.datetimes(timezones=st.just(UTC)),
    received_at=st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
)
def test_no_clock_makes_an_event_of_the_far_future(
    original: datetime, sent_at: datetime | None, received_at: datetime
) -> None:
    corrected, _ = correct_clock_skew(original, sent_at, received_at)

    assert corrected - received_at <= timedelta(hours=23)


def test_the_previous_id_is_the_last_one_that_sorts_before() -> None:
    lowest = make_lowest_id(datetime(2026, 11, 23, 8, tzinfo=UTC))

    assert lowest.int - get_previous_id(lowest).int == 1
    assert get_previous_id(UUID(int=0)) == UUID(int=0)
