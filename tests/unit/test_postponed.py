"""A batch that the broker does not confirm is tried again later, and given up only if the broker takes others."""

from uuid import UUID

from services.relay.unsendable import Postponed

STUCK, OTHER = UUID(int=1), UUID(int=2)


def test_what_failed_waits_and_what_was_sent_does_not() -> None:
    postponed = Postponed("test")
    postponed.record_failure(STUCK)
    postponed.record_failure(OTHER)

    postponed.record_done(OTHER)

    assert postponed.list_waiting() == [STUCK]


def test_a_batch_is_never_hopeless_while_nothing_else_is_sent() -> None:
    postponed = Postponed("test")

    assert not any(postponed.record_failure(STUCK) for _ in range(100))


def test_a_batch_that_fails_again_and_again_while_others_are_sent_is_hopeless() -> None:
    postponed = Postponed("test")
    answers = []
    for _ in range(6):
        answers.append(postponed.record_failure(STUCK))
        postponed.record_done(OTHER)

    assert answers == [False] * 5 + [True]
