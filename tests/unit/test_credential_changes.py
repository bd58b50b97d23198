"""Which cached credentials a process may use, as far as it follows from the changes that it has read."""

import asyncio
import time
from uuid import UUID

import pytest

from tests.support.credential_changes import a_change
from tracking.contracts.invalidation import CREDENTIAL_TRUST_S
from tracking.domain.errors import Unavailable
from tracking.tables.credential_changes import CredentialChanges, Names

KEY, SYSTEM, PARTNER = bytes(32), UUID(int=1), UUID(int=2)
NAMES: Names = (KEY.hex(), SYSTEM, PARTNER)


def some_changes(*rows: dict[str, object]) -> CredentialChanges:
    changes = CredentialChanges("postgresql://127.0.0.1:1/none", service="test")
    if rows:
        changes.apply_reading(rows, time.monotonic())
    return changes


def test_nothing_is_current_before_the_first_reading() -> None:
    changes = some_changes()

    assert not changes.is_current(0, NAMES)
    assert changes.trusted_until < time.monotonic()


@pytest.mark.parametrize(
    "named", [{"key_sha256": KEY}, {"token_sha256": KEY}, {"partner_system_id": SYSTEM}, {"partner_id": PARTNER}]
)
def test_an_entry_is_current_unless_a_later_change_names_it_or_an_owner(named: dict[str, object]) -> None:
    changes = some_changes(a_change(3), a_change(5, **named), a_change(8, partner_id=UUID(int=9)))

    assert [number for number in range(12) if changes.is_current(number, NAMES)] == [5, 6, 7, 8]
    assert [number for number in range(12) if changes.is_current(number, ["other"])] == [3, 4, 5, 6, 7, 8]


def test_a_later_reading_adds_its_changes_and_tells_which_they_are() -> None:
    changes = some_changes(a_change(3))
    told: list[Names | None] = []
    changes.add_listener(told.append)

    changes.apply_reading([], time.monotonic())
    changes.apply_reading([a_change(4, partner_id=PARTNER), a_change(5, key_sha256=KEY)], time.monotonic())

    assert told == [{PARTNER, KEY.hex()}]
    assert [number for number in range(12) if changes.is_current(number, NAMES)] == [5]
    assert [number for number in range(12) if changes.is_current(number, [])] == [3, 4, 5]


async def test_who_waits_is_answered_by_a_reading_that_began_after_it_did() -> None:
    changes = some_changes(a_change(3))
    began = time.monotonic()
    changes.apply_reading([], began - CREDENTIAL_TRUST_S)
    waiting = asyncio.create_task(changes.wait_until_current(5))
    await asyncio.sleep(0)

    changes.apply_reading([], began - 0.01)
    await asyncio.sleep(0)
    assert not waiting.done()

    changes.apply_reading([], time.monotonic())
    await waiting


async def test_nobody_waits_while_the_last_reading_is_recent() -> None:
    changes = some_changes(a_change(3))

    await changes.wait_until_current(0)


async def test_without_a_reading_in_time_it_is_unavailable() -> None:
    with pytest.raises(Unavailable) as failure:
        await some_changes().wait_until_current(0.01)

    assert failure.value.code == "database_unavailable"


async def test_no_more_wait_than_may_so_that_their_requests_cannot_fill_the_memory() -> None:
    changes = some_changes()
    waiting = [asyncio.create_task(changes.wait_until_current(60)) for _ in range(1_010)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert sum(task.done() for task in waiting) == 10

    changes.apply_reading([a_change(1)], time.monotonic())
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers if answer is not None] == [Unavailable] * 10
