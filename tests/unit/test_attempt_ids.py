"""Attempts are counted for each part of a batch by itself, under ids that are made of the batch's."""

from uuid import UUID

import pytest

from tracking.tables.apply_failures import make_attempt_id

BATCH = UUID("01a2080d-c3ae-7482-a63d-42ace56cf564")


def test_a_whole_batch_and_its_first_part_have_the_id_of_the_batch() -> None:
    assert make_attempt_id(BATCH, 0) == BATCH


def test_each_other_part_has_an_id_of_its_own_that_differs_from_the_batch_in_its_last_two_bytes() -> None:
    ids = {make_attempt_id(BATCH, first) for first in range(2_500)}

    assert len(ids) == 2_500
    assert {id_.bytes[:14] for id_ in ids} == {BATCH.bytes[:14]}


@pytest.mark.parametrize("first", [1, 999, 2_499])
def test_the_id_of_a_part_is_the_same_each_time(first: int) -> None:
    assert make_attempt_id(BATCH, first) == make_attempt_id(BATCH, first) != BATCH
