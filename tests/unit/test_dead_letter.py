"""Which decisions about a dead letter its state allows."""

from typing import get_args
from uuid import UUID

import pytest

from tracking.domain.dead_letter import TRANSITIONS, DeadLetterState, require_discard, require_retry
from tracking.domain.errors import Conflict

LETTER = UUID(int=1)


@pytest.mark.parametrize("state", ["open", "retried", "discarded"])
def test_what_is_not_applied_can_be_retried_or_discarded(state: DeadLetterState) -> None:
    require_retry(LETTER, state, can_be_sent=True)
    require_discard(LETTER, state)


def test_what_is_applied_leaves_nothing_to_decide() -> None:
    with pytest.raises(Conflict) as of_retry:
        require_retry(LETTER, "applied", can_be_sent=False)
    with pytest.raises(Conflict) as of_discard:
        require_discard(LETTER, "applied")

    assert (of_retry.value.code, of_discard.value.code) == ("dead_letter_applied", "dead_letter_applied")


def test_what_was_not_kept_whole_can_only_be_discarded() -> None:
    with pytest.raises(Conflict, match="too large to be kept whole"):
        require_retry(LETTER, "open", can_be_sent=False)
    require_discard(LETTER, "open")


def test_each_state_says_what_may_follow() -> None:
    assert set(TRANSITIONS) == set(get_args(DeadLetterState))
