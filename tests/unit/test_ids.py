"""Which message ids are names, and how ids are made.

UUIDs that are made by filling slots are those of the constructor, and there is a way without slots.
"""

import pickle
import sys
from datetime import UTC, datetime, timedelta
from uuid import UUID, SafeUUID, uuid3, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


SYSTEM, NOON = UUID(int=1), datetime(2025, 12, 24, 12, tzinfo=UTC)
RANDOM = "4e1c2b6f-2f4b-4c5e-9a86-0b1f6d2c7e91"
MD5 = "a8fa0aa1b2954f5aa763fceac2b16c6f"
MADE_PER_CALL = [
    RANDOM,
    RANDOM.upper(),
    # versions 1, 6 and 7
    "c232ab00-9414-11ec-b3c8-9f6bdeced846",
    "1ec9414c-232a-6b00-b3c8-9f6bdeced846",
    "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
    f"ajs-next-1766572200000-{RANDOM}",
    f"node-next-1766572200000-{RANDOM}",
    f"node-{MD5}-{RANDOM}",
    f"1766572200000-{RANDOM.upper()}",
    f"api_{RANDOM}",
    f"app:v2/{RANDOM}",
    f"urn:uuid:{RANDOM}",
    # the other forms of SDKs
    f"ajs-{MD5}",
    f"ajs-next-{MD5}",
    "node-0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0u",
]
NAMES = [
    "order-1",
    "1",
    " ",
    MD5,
    RANDOM.replace("-", ""),
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    # UUIDs that are made of a name, or of nothing
    str(uuid3(SYSTEM, "order-1")),
    str(uuid5(SYSTEM, "order-1")),
    str(UUID(int=0)),
    str(UUID(int=2**128 - 1)),
    # versions 2 and 8, another variant, one digit less
    "4e1c2b6f-2f4b-2c5e-9a86-0b1f6d2c7e91",
    "4e1c2b6f-2f4b-8c5e-9a86-0b1f6d2c7e91",
    "4e1c2b6f-2f4b-4c5e-ca86-0b1f6d2c7e91",
    "4e1c2b6f-2f4b-4c5e-9a86-0b1f6d2c7e9",
    # something else comes before it, or after it
    f"a{RANDOM}",
    f"0{RANDOM}",
    f"{RANDOM}-refund",
    f"{RANDOM}\n",
    f"{{{RANDOM}}}",
    f"order-{uuid5(SYSTEM, 'order-1')}",
    # nearly a form of SDKs
    f"xjs-{MD5}",
    f"ajs-{MD5}0",
    f"ajs-{MD5.upper()}",
    "node-1",
    # digits of other scripts
    RANDOM.replace("4", "\u0664"),
]


@pytest.mark.parametrize("client_id", MADE_PER_CALL)
def test_an_id_with_a_random_uuid_is_placed_by_its_time(client_id: str) -> None:
    made = ids.derive_event_id(SYSTEM, client_id, NOON)

    assert ids.is_made_per_call(client_id)
    assert made == ids.derive_dated_id(SYSTEM, client_id, NOON)
    assert made != ids.derive_event_id(SYSTEM, client_id, NOON + timedelta(seconds=1))
    assert not ids.is_named_id(made)


@pytest.mark.parametrize("client_id", MADE_PER_CALL)
def test_without_a_usable_time_and_as_an_idempotency_key_it_is_a_name(client_id: str) -> None:
    named = {
        ids.derive_event_id(SYSTEM, client_id, None),
        ids.derive_event_id(SYSTEM, client_id, NOON.replace(year=1066)),
        ids.derive_event_id(SYSTEM, client_id, NOON, is_name=True),
    }

    assert len(named) == 1
    assert ids.is_named_id(named.pop())


@pytest.mark.parametrize("client_id", NAMES)
def test_any_other_id_is_a_name_that_no_time_moves(client_id: str) -> None:
    times = [None, NOON, NOON + timedelta(seconds=1), NOON.replace(year=2004), NOON.replace(year=9999)]

    made = {ids.derive_event_id(SYSTEM, client_id, at) for at in times}

    assert not ids.is_made_per_call(client_id)
    assert len(made) == 1
    assert ids.is_named_id(made.pop())


@given(st.text(max_size=100), st.text(max_size=100))
def test_two_names_make_two_ids_apart_from_all_that_are_dated(one: str, other: str) -> None:
    first, second = (ids.derive_event_id(SYSTEM, name, NOON, is_name=True) for name in (one, other))

    assert (first == second) == (one == other)
    assert (first.version, first.variant) == (8, "specified in RFC 4122")
    assert first > ids.make_uuid7(ids.get_usable_unix_ms(NOON.replace(year=2099)), 2**74 - 1)
    assert first != ids.derive_event_id(UUID(int=2), one, NOON, is_name=True)
