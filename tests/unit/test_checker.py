"""The checker of the fault suite finds each kind of violation; otherwise an empty report would prove nothing."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from tests.faults.checker import ExpectedCounts, Facts, Findings, RollupKey, StoredEvent, check
from tests.faults.ledger import Outcome, Sent

SYSTEM = UUID(int=1)
HOUR = datetime(2026, 11, 20, 10, tzinfo=UTC)
BUCKET = RollupKey(SYSTEM, HOUR, "page_view")
DAY = RollupKey(SYSTEM, HOUR.replace(hour=0), "page_view")


def row(number: int, *, event_id: int | None = None, is_valid: bool = True) -> StoredEvent:
    return StoredEvent(SYSTEM, UUID(int=event_id or 100 + number), f"m{number}", "page_view", HOUR, is_valid)


def sent(number: int, outcome: Outcome = "acknowledged", *, is_bad: bool = False) -> Sent:
    event_id = str(UUID(int=100 + number)) if outcome == "acknowledged" else None
    return Sent(f"m{number}", str(SYSTEM), is_bad, outcome, event_id)


def good() -> Facts:
    """Three acknowledged events, one rejected, one unknown that was stored and one unknown that was not."""
    rows = [row(1), row(2), row(3, is_valid=False), row(5)]
    return Facts(
        sent=[sent(1), sent(2), sent(3), sent(4, "refused", is_bad=True), sent(5, "unknown"), sent(6, "unknown")],
        stored=rows,
        seen=rows,
        counted={BUCKET: ExpectedCounts(4, 3, 1)},
        days={DAY: ExpectedCounts(4, 3, 1)},
        queried={SYSTEM: 4},
    )


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert check(good()) == Findings()
    assert check(good()).is_clean


def test_an_acknowledged_event_that_is_not_stored_is_lost() -> None:
    facts = good()

    findings = check(replace(facts, sent=[*facts.sent, sent(7)]))

    assert findings.lost == ["m7"]
    assert not findings.is_clean


def test_a_stored_event_that_is_not_in_the_read_model_is_lost() -> None:
    facts = good()

    assert check(replace(facts, seen=facts.seen[1:])).lost == ["m1"]


def test_an_event_stored_under_two_ids_is_there_twice() -> None:
    facts = good()
    rows = [*facts.stored, row(2, event_id=900)]

    findings = check(
        replace(facts, stored=rows, seen=rows, counted={BUCKET: ExpectedCounts(5, 4, 1)}, queried={SYSTEM: 5})
    )

    assert (findings.twice, findings.lost) == (["m2"], [])


def test_an_event_that_is_in_the_read_model_twice_is_there_twice() -> None:
    facts = good()

    assert check(replace(facts, seen=[*facts.seen, row(1)])).twice == ["m1"]


def test_an_event_counted_twice_is_miscounted() -> None:
    assert len(check(replace(good(), counted={BUCKET: ExpectedCounts(5, 4, 1)})).miscounted) == 1


def test_an_event_counted_as_valid_that_is_not_is_miscounted() -> None:
    assert len(check(replace(good(), counted={BUCKET: ExpectedCounts(4, 4, 0)})).miscounted) == 1


def test_an_hour_that_is_not_counted_and_one_counted_for_nothing_are_miscounted() -> None:
    later = BUCKET._replace(begin=HOUR.replace(hour=11))

    assert len(check(replace(good(), counted={later: ExpectedCounts(4, 3, 1)})).miscounted) == 2


def test_a_day_that_is_not_the_sum_of_its_hours_is_miscounted() -> None:
    tomorrow = DAY._replace(begin=DAY.begin.replace(day=21))

    assert len(check(replace(good(), days={DAY: ExpectedCounts(3, 3, 0)})).miscounted) == 1
    assert len(check(replace(good(), days={tomorrow: ExpectedCounts(4, 3, 1)})).miscounted) == 2


def test_a_query_that_says_another_number_is_miscounted() -> None:
    assert len(check(replace(good(), queried={SYSTEM: 3})).miscounted) == 1


def test_a_stored_event_that_nobody_sent_is_a_stranger() -> None:
    facts = good()
    rows = [*facts.stored, row(8)]

    findings = check(
        replace(facts, stored=rows, seen=rows, counted={BUCKET: ExpectedCounts(5, 4, 1)}, queried={SYSTEM: 5})
    )

    assert findings.strangers == ["m8"]


def test_a_stored_event_whose_sender_was_told_that_it_was_rejected_is_a_stranger() -> None:
    facts = good()

    findings = check(replace(facts, sent=[sent(1, "refused", is_bad=True), *facts.sent[1:]]))

    assert findings.strangers == ["m1"]


def test_a_row_of_the_read_model_that_was_never_stored_is_a_stranger() -> None:
    facts = good()

    assert check(replace(facts, seen=[*facts.seen, row(9)])).strangers == ["m9"]


def test_a_good_event_that_was_rejected_and_a_bad_one_that_was_not_are_misanswered() -> None:
    facts = good()
    told = [*facts.sent, sent(10, "refused"), replace(facts.sent[0], is_bad=True)]

    assert len(check(replace(facts, sent=told)).misanswered) == 2


def test_an_answer_with_another_id_than_the_stored_one_is_misanswered() -> None:
    facts = good()
    told = [replace(facts.sent[0], event_id=str(UUID(int=555))), *facts.sent[1:]]

    assert len(check(replace(facts, sent=told)).misanswered) == 1


def test_a_dead_letter_is_never_clean() -> None:
    assert not check(replace(good(), dead_letters=1)).is_clean
