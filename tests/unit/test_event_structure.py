"""The rules of event structures and their versions."""

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tracking.domain.errors import Conflict, Malformed, NotFound
from tracking.domain.event_structure import (
    EventStructure,
    PartnerEventStructure,
    StructureVersion,
    VersionStatus,
    restore_structure,
)

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def test_the_highest_published_version_counts() -> None:
    structure = EventStructure.define(UUID(int=5), "purchase", "", NOON)
    structure.add_version({"a": 1}, NOON, publish=True)
    structure.add_version({"a": 2}, NOON, publish=False)
    assert structure.current is structure.get_version(1)

    structure.publish(2, LATER)
    assert structure.current is structure.get_version(2)

    structure.deprecate(2, LATER)
    assert structure.current is structure.get_version(1)
    assert [event.name for event in structure.pull_events()] == [
        "StructureDrafted",
        "StructurePublished",
        "StructureDrafted",
        "StructurePublished",
        "StructureDeprecated",
    ]


def test_a_version_goes_one_way() -> None:
    structure = EventStructure.define(UUID(int=5), "purchase", "", NOON)
    structure.add_version(True, NOON, publish=True)

    with pytest.raises(Conflict):
        structure.publish(1, NOON)
    structure.deprecate(1, NOON)
    with pytest.raises(Conflict):
        structure.deprecate(1, NOON)
    with pytest.raises(NotFound):
        structure.publish(2, NOON)


def test_a_draft_counts_for_nothing_and_cannot_be_deprecated() -> None:
    structure = EventStructure.define(UUID(int=5), "purchase", "", NOON)
    structure.add_version(True, NOON, publish=False)

    assert structure.current is None
    with pytest.raises(Conflict):
        structure.deprecate(1, NOON)


def test_an_older_draft_that_is_published_late_does_not_count() -> None:
    structure = EventStructure.define(UUID(int=5), "purchase", "", NOON)
    structure.add_version(True, NOON, publish=False)
    structure.add_version(False, NOON, publish=True)

    structure.publish(1, LATER)

    assert structure.current is structure.get_version(2)


def test_every_change_of_a_version_moves_the_structures_time() -> None:
    structure = EventStructure.define(UUID(int=5), "purchase", "", NOON)
    times = [structure.updated_at]

    structure.add_version(True, NOON, publish=False)
    times.append(structure.updated_at)
    structure.publish(1, NOON)
    times.append(structure.updated_at)
    structure.deprecate(1, LATER)
    times.append(structure.updated_at)

    assert times == sorted(set(times))


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\x00"])
def test_an_event_cannot_have_such_a_name(name: str) -> None:
    with pytest.raises(Malformed):
        EventStructure.define(UUID(int=5), name, "", NOON)


def test_versions_with_a_gap_cannot_be_restored() -> None:
    version = StructureVersion(2, True, VersionStatus.DRAFT, NOON)

    with pytest.raises(ValueError, match="without gaps"):
        restore_structure(
            id=UUID(int=5),
            partner_id=None,
            event_name="a",
            description="",
            versions=[version],
            created_at=NOON,
            updated_at=NOON,
        )


def test_a_structure_is_restored_as_what_it_is() -> None:
    fields: dict[str, Any] = {
        "id": UUID(int=5),
        "event_name": "a",
        "description": "",
        "versions": [],
        "created_at": NOON,
        "updated_at": NOON,
    }

    assert type(restore_structure(partner_id=None, **fields)) is EventStructure
    own = restore_structure(partner_id=UUID(int=1), **fields)
    assert type(own) is PartnerEventStructure
    assert own.partner_id == UUID(int=1)


def test_the_schema_of_a_version_cannot_be_replaced() -> None:
    structure = EventStructure.define(UUID(int=5), "purchase", "", NOON)
    version = structure.add_version({"type": "object"}, NOON, publish=True)

    with pytest.raises(FrozenInstanceError):
        version.schema = True  # type: ignore[misc]
