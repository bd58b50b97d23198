"""Parameters of requests for a range or a page: which are accepted and which are rejected."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from services.query.cursor import PagePosition
from services.query.parameters import ListParameters, RangeParameters, StatisticsParameters
from services.query.time_range import TimeRange
from tracking.domain.errors import Malformed

NOW = datetime(2026, 3, 15, 10, 42, 17, 123456, tzinfo=UTC)
SYSTEM = UUID("223e4567-e89b-12d3-a456-426614174001")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@pytest.mark.parametrize(
    ("given", "start", "end"),
    [
        (("2025-12-01T00:00:00Z", "2025-12-31T23:59:59Z"), "2025-12-01T00:00:00Z", "2025-12-31T23:59:59Z"),
        (("2025-12-01T00:00:00", "2025-12-31T23:59:59.5"), "2025-12-01T00:00:00Z", "2025-12-31T23:59:59.5Z"),
        (("2025-12-01T07:00:00+07:00", "2025-12-02"), "2025-12-01T00:00:00Z", "2025-12-02T23:59:59.999999Z"),
        (("2025-12-01T07:00:00 07:00", "2025-12-02"), "2025-12-01T00:00:00Z", "2025-12-02T23:59:59.999999Z"),
        (("2025-12-02", "2025-12-02"), "2025-12-02T00:00:00Z", "2025-12-02T23:59:59.999999Z"),
        (("2026-03-15T10:00:00Z", ""), "2026-03-15T10:00:00Z", "2026-03-16T10:59:59.999999Z"),
        (("", "2026-01-30T23:59:59.999999Z"), "2026-01-01T00:00:00Z", "2026-01-30T23:59:59.999999Z"),
        (("", "2030-01-01T00:00:00Z"), "2026-02-13T10:00:00Z", "2030-01-01T00:00:00Z"),
    ],
)
def test_a_range_is_in_utc_and_includes_its_end(given: tuple[str, str], start: str, end: str) -> None:
    asked = RangeParameters.model_validate({"startDate": given[0], "endDate": given[1]})

    assert asked.to_time_range(NOW) == TimeRange(at(start), at(end))


def test_a_range_of_our_choice_stands_still_for_an_hour() -> None:
    ranges = {RangeParameters().to_time_range(NOW.replace(minute=minute)) for minute in range(60)}

    assert len(ranges) == 1
    [within] = ranges
    assert within.start <= NOW.replace(minute=0, second=0, microsecond=0) - timedelta(days=30)
    assert within.end >= NOW.replace(minute=59) + timedelta(hours=24)
    assert within.get_whole_hours() == (within.start, within.exclusive_end)


@pytest.mark.parametrize(
    "text", ["yesterday", "2025-13-01", "2025-12-01T25:00:00Z", "0001-01-01T00:00:00+14:00", "1e9", "5"]
)
def test_a_time_that_is_none_is_rejected(text: str) -> None:
    for name in ("startDate", "endDate"):
        with pytest.raises(ValidationError, match="ISO 8601"):
            RangeParameters.model_validate({name: text})


LAST_MOMENT = datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59.999999Z", "9999-12-31"])
def test_the_ends_of_time_are_times(text: str) -> None:
    asked = RangeParameters.model_validate({"startDate": "0001-01-01T00:00:00Z", "endDate": text})

    within = asked.to_time_range(NOW)

    assert within.end.isoformat().startswith(text.removesuffix("Z"))
    assert within.exclusive_end > within.end or within.end == LAST_MOMENT
    assert within.start <= within.get_whole_hours()[0] <= within.get_whole_hours()[1] <= within.exclusive_end
    assert RangeParameters.model_validate({"endDate": text}).to_time_range(NOW)


def test_the_last_hour_of_the_calendar_has_no_whole_hour_after_its_start() -> None:
    within = TimeRange(LAST_MOMENT.replace(minute=30), LAST_MOMENT)

    first_hour, last_hour = within.get_whole_hours()
    first_day, last_day = within.get_whole_days()

    assert first_hour > last_hour
    assert first_day > last_day


def test_a_range_that_ends_before_it_starts_is_rejected() -> None:
    asked = RangeParameters.model_validate({"startDate": "2026-01-02", "endDate": "2026-01-01T00:00:00Z"})

    with pytest.raises(Malformed, match="startDate is after endDate"):
        asked.to_time_range(NOW)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        ("10:00:00", "11:59:59.999999", "10:00:00", "12:00:00"),
        ("10:00:00.000001", "11:59:59.999998", "11:00:00", "11:00:00"),
        ("10:15:00", "12:15:00", "11:00:00", "12:00:00"),
        ("10:15:00", "10:45:00", "11:00:00", "10:00:00"),
    ],
)
def test_the_whole_hours_of_a_range_lie_inside_it(start: str, end: str, first: str, last: str) -> None:
    within = TimeRange(at(f"2026-01-01T{start}Z"), at(f"2026-01-01T{end}Z"))

    assert within.get_whole_hours() == (at(f"2026-01-01T{first}Z"), at(f"2026-01-01T{last}Z"))


@pytest.mark.parametrize(
    "given",
    [
        {"pageNumber": "0"}, {"pageNumber": "x"}, {"pageNumber": "9" * 40}, {"pageSize": "0"},
        {"pageSize": "1001"}, {"isValid": "maybe"},
        {"userId": "a\x00b"}, {"eventName": "x" * 201}, {"cursor": "x" * 201}, {"page_number": 1.5},
        {"order": "oldest"}, {"order": "ASC"},
    ],
)  # fmt: skip
def test_a_parameter_that_makes_no_sense_is_rejected(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ListParameters.model_validate(given)


def test_an_empty_parameter_is_a_missing_one() -> None:
    assert ListParameters.model_validate({"eventName": "", "cursor": "", "isValid": ""}) == ListParameters()


def test_a_page_that_is_too_deep_to_skip_to_asks_for_a_cursor() -> None:
    assert ListParameters(page_number=101, page_size=1000).get_offset() == 100_000
    with pytest.raises(Malformed, match="cursor"):
        ListParameters(page_number=102, page_size=1000).get_offset()


def test_a_cursor_continues_after_its_event_in_the_range_it_came_from() -> None:
    asked = ListParameters.model_validate({"eventName": "a"})
    first = asked.get_position(SYSTEM, NOW)
    last = (NOW - timedelta(days=3), uuid4())

    cursor = asked.make_next_cursor(SYSTEM, first.within, last)
    later = ListParameters.model_validate({"eventName": "a", "cursor": cursor, "pageSize": "7"})
    position = later.get_position(SYSTEM, NOW + timedelta(hours=5))

    assert (position.last_at, position.last_id) == last
    assert position.within == first.within
    assert later.get_offset() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"eventName": "b"}, {"isValid": "true"}, {"userId": "u"}, {"startDate": "2026-01-01"},
        {"endDate": "2026-01-01"}, {"userId": "u", "mergeIdentities": "true"},
        {"order": "asc"}, {"includeBots": "true"},
    ],
)  # fmt: skip
def test_a_cursor_of_other_filters_is_rejected(change: dict[str, str]) -> None:
    asked = ListParameters.model_validate({"eventName": "a"})
    cursor = asked.make_next_cursor(SYSTEM, asked.to_time_range(NOW), (NOW, uuid4()))

    with pytest.raises(Malformed) as rejection:
        ListParameters.model_validate({"eventName": "a", "cursor": cursor} | change).get_position(SYSTEM, NOW)
    assert rejection.value.code == "invalid_cursor"
    with pytest.raises(Malformed):
        ListParameters.model_validate({"eventName": "a", "cursor": cursor}).get_position(uuid4(), NOW)


# made by the version that put cursors together in `ListParameters`; clients may hold such ones
_OLD_CURSORS: list[tuple[dict[str, str], str]] = [
    ({}, "AAZM0WgCVoABm0_hLkB6MZwebB9dOpsQAAZKsasRyAAABk0iHroL_6Gc_1ie5FS5"),
    (
        {
            "eventName": "a", "isValid": "false", "correlationId": "c", "eventType": "page", "isBot": "true",
            "startDate": "2026-01-01", "endDate": "2026-03-14",
        },
        "AAZM0WgCVoABm0_hLkB6MZwebB9dOpsQAAZHSEYgQAAABk0EyIqf_-zK34OHsgDW",
    ),
    (
        {"userId": "u ü", "mergeIdentities": "true"},
        "AAZM0WgCVoABm0_hLkB6MZwebB9dOpsQAAZKsasRyAAABk0iHroL_zgmhQ4gQghI",
    ),
    ({"anonymousId": "a"}, "AAZM0WgCVoABm0_hLkB6MZwebB9dOpsQAAZKsasRyAAABk0iHroL_854U3ytcEDT"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "cursor"), _OLD_CURSORS)
def test_a_cursor_of_an_earlier_version_is_accepted_and_made_again(given: dict[str, str], cursor: str) -> None:
    event_id = UUID("019b4fe1-2e40-7a31-9c1e-6c1f5d3a9b10")
    within = ListParameters.model_validate(given).to_time_range(NOW)

    asked = ListParameters.model_validate(given | {"cursor": cursor})

    assert asked.get_position(SYSTEM, NOW + timedelta(days=30)) == PagePosition(
        within, NOW - timedelta(days=3), event_id
    )
    assert asked.make_next_cursor(SYSTEM, within, (NOW - timedelta(days=3), event_id)) == cursor


@pytest.mark.parametrize("given", [{}, {"userId": "u", "anonymousId": "a"}, {"eventName": "a"}])
def test_a_merged_actor_is_asked_for_by_one_id(given: dict[str, str]) -> None:
    assert ListParameters.model_validate({"userId": "u", "mergeIdentities": "true"}).should_merge()
    assert not ListParameters.model_validate(given).should_merge()
    with pytest.raises(Malformed) as rejection:
        ListParameters.model_validate(given | {"mergeIdentities": "true"}).should_merge()
    assert rejection.value.code == "invalid_parameters"


def test_actors_are_merged_only_where_they_are_counted() -> None:
    assert StatisticsParameters(unique_actors=True, merge_identities=True).should_merge()
    with pytest.raises(Malformed, match="uniqueActors"):
        StatisticsParameters(merge_identities=True).should_merge()


def test_a_cursor_that_somebody_made_up_reaches_no_further_than_the_ends_of_time() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    for start in (first, last):
        cursor = ListParameters().make_next_cursor(SYSTEM, TimeRange(start, last), (NOW, uuid4()))
        within = ListParameters(cursor=cursor).get_position(SYSTEM, NOW).within
        assert within.exclusive_end == last
        assert within.get_whole_hours()[0] <= last


@pytest.mark.parametrize("cursor", ["a", "AAAA", "\U0001f600", "=", "!" * 66, "A" * 66, "_" * 66, "-" * 200])
def test_a_cursor_that_is_none_is_rejected(cursor: str) -> None:
    with pytest.raises(Malformed) as rejection:
        ListParameters.model_validate({"cursor": cursor}).get_position(SYSTEM, NOW)

    assert rejection.value.code == "invalid_cursor"
