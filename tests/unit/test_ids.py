"""UUIDs that are made by filling slots are those of the constructor, and there is a way without slots."""

import pickle
import sys
from uuid import UUID, SafeUUID

import pytest

from tracking.domain import ids

NUMBERS = [0, 1, 0x7 << 76 | 0b10 << 62, 2**128 - 1]
ADVICE = (
    "tracking.domain.ids fills the slots of uuid.UUID. Read Lib/uuid.py of this Python: if the class still has exactly "
    "the slots int and is_safe, run tests/unit/test_ids.py and test_costs.py and raise NEWEST_COMPARED_PYTHON; if not, "
    "the constructor is used meanwhile, and make_slot_filler can be deleted."
)


def test_this_python_is_no_newer_than_the_one_that_was_compared() -> None:
    assert sys.version_info[:2] <= ids.NEWEST_COMPARED_PYTHON, ADVICE


def test_the_class_has_the_slots_that_are_filled() -> None:
    assert UUID.__slots__ == ("int", "is_safe", "__weakref__"), ADVICE
    assert ids.select_maker(UUID).__name__ == "make_by_slots", ADVICE


@pytest.mark.parametrize("number", NUMBERS)
def test_filled_slots_are_what_the_constructor_makes(number: int) -> None:
    made, plain = ids.make_slot_filler(UUID)(number), UUID(int=number)

    assert made == plain
    assert type(made) is UUID
    assert made.is_safe is SafeUUID.unknown
    assert (str(made), hash(made), made.bytes) == (str(plain), hash(plain), plain.bytes)
    assert pickle.dumps(made) == pickle.dumps(plain)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_constructor_makes_the_same_where_the_slots_are_missing(number: int) -> None:
    class WithoutSlots(UUID):
        """Its own dictionary has none of the two slots."""

    make = ids.select_maker(WithoutSlots)

    assert make.__name__ == "make_plainly"
    assert make(number) == ids.select_maker(UUID)(number)
