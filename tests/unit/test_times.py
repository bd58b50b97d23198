"""Which texts and numbers are read as which times, and which are none."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.domain.timestamps import names_day, parse_timestamp, read_time, to_unix_ms

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
HALF = timedelta(milliseconds=500)
TIMES = {
    # RFC 3339
    "2025-12-24T12:00:00Z": NOON,
    "2025-12-24t12:00:00z": NOON,
    "2025-12-24 12:00:00Z": NOON,
    "2025-12-24T17:30:00+05:30": NOON,
    "2025-12-24T12:00:00-00:00": NOON,
    "2025-12-24T12:00:00.5Z": NOON + HALF,
    "2025-12-24T12:00:00.123456+00:00": NOON + timedelta(microseconds=123456),
    "2025-12-24T12:00:00.123456789Z": NOON + timedelta(microseconds=123456),
    # leap seconds are the second after
    "2025-12-24T11:59:60Z": NOON,
    "1990-12-31T15:59:60.5-08:00": datetime(1991, 1, 1, tzinfo=UTC) + HALF,
    # ISO 8601
    "2025-12-24T12:00:00": NOON,
    "2025-12-24T12:00:00,5Z": NOON + HALF,
    "2025-12-24T12:00": NOON,
    "2025-12-24T12": NOON,
    "2025-12-24T12,5Z": NOON + timedelta(minutes=30),
    "2025-12-24T12:00.5Z": NOON + timedelta(seconds=30),
    "2025-12-24T13+01": NOON,
    "2025-12-24T07:00:00\u221205:00": NOON,
    "2025-12-23T24:00:00Z": NOON.replace(hour=0),
    "2025-12-23T24:00": NOON.replace(hour=0),
    "2025-12-24": NOON.replace(hour=0),
    "20251224": NOON.replace(hour=0),
    "20251224T120000Z": NOON,
    "20251224T173000.5+0530": NOON + HALF,
    "20251224120000": NOON,
    "2025-W52-3": NOON.replace(hour=0),
    "2025W523T12Z": NOON,
    "2025-358T12:00:00Z": NOON,
    "2025358": NOON.replace(hour=0),
    "+002025-12-24T12:00:00Z": NOON,
    # as a query has it in which "+" was not written as %2B
    "2025-12-24T17:30:00 05:30": NOON,
    " 2025-12-24T12:00:00Z\n": NOON,
    # numbers
    "1766577600": NOON,
    "1766577600.5": NOON + HALF,
    "1766577600500": NOON + HALF,
    "1766577600000000": NOON,
    "1766577600000000000": NOON,
    "1795112712345": datetime(2026, 11, 19, 18, 25, 12, 345000, tzinfo=UTC),
    "100000000": datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC),
}
NUMBERS = {
    1766577600: NOON,
    1766577600.5: NOON + HALF,
    1766577600500: NOON + HALF,
    1766577600500.25: NOON + HALF + timedelta(microseconds=250),
    1766577600000001: NOON + timedelta(microseconds=1),
    1766577600000001000: NOON + timedelta(microseconds=1),
}
NO_TIMES = [
    "", " ", "yesterday", "2025-13-01T00:00:00Z", "2025-02-30", "2025-366", "2025-W53", "25:00", "2025", "2025-12",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T24:00:00Z",
    "2025-12-24T12:00:00Z" * 3, "2025-12-24T12:00:61Z", "2025-12-24T12:60:00Z", "2025-12-24T25:00:00Z",
    "2025-12-24T24:00:01Z", "2025-12-24T12:00:00+24:00", "2025-12-24x12:00:00Z", "2025-12-24T12:00:00\x00",
    "2025-12-24T12:00:00ZZ", "20251324", "12/24/2025", "2025-12-24T12:00:00 PM",
    # numbers that lie in no unit's range
    "0", "-1766577600", "123", "12345678901", "99999999999999", "1e9", "NaN", "\u0661\u0667" * 5,
]  # fmt: skip
NO_NUMBERS: list[object] = [
    0,
    -1,
    1,
    20251224,
    10**10,
    10**13,
    10**19,
    10**40,
    1e300,
    float("nan"),
    float("inf"),
    True,
    None,
    [],
    {},
]


@pytest.mark.parametrize("text", TIMES)
def test_what_rfc_3339_and_iso_8601_allow_is_read(text: str) -> None:
    assert parse_timestamp(text) == read_time(text) == TIMES[text]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_size_of_a_number_tells_its_unit(number: float) -> None:
    assert read_time(number) == NUMBERS[number]


@pytest.mark.parametrize("text", NO_TIMES)
def test_a_text_that_is_no_time_is_none(text: str) -> None:
    assert parse_timestamp(text) is None


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_value_that_is_no_time_is_none(value: object) -> None:
    assert read_time(value) is None


@given(st.datetimes(datetime(1973, 3, 4), datetime(2286, 11, 20), timezones=st.just(UTC)))
def test_a_moment_is_read_back_from_each_unit(at: datetime) -> None:
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    ms = to_unix_ms(at)

    for number in (ms * 1000, ms, ms * 1_000_000):
        assert read_time(number) == read_time(str(number)) == at
    assert read_time(f"{ms // 1000}.{ms % 1000:03d}") == at
    assert read_time(at.isoformat()) == read_time(at.isoformat().lower()) == at


@given(st.text(max_size=50) | st.text("0123456789TWZ:.,+- ", max_size=30))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    parsed = parse_timestamp(text)

    assert parsed is None or parsed.utcoffset() == timedelta(0)


def test_a_date_alone_names_a_day_and_a_number_does_not() -> None:
    assert all(names_day(text) for text in ("2025-12-24", "20251224", "2025-W52-3", "2025-358"))
    assert not any(names_day(text) for text in ("1766577600", "2025-12-24T00", "20251224000000", ""))
