"""The index of event structures: which version decides about an event, and how many validators are kept."""

from uuid import UUID

import pytest

from services.gateway.events import structure_index
from services.gateway.events.structure_index import SchemaNotLoaded, SchemaRef, StructureIndex
from tracking.domain.errors import Malformed
from tracking.infra.validation import compile_schema

PARTNER, OTHER = UUID(int=1), UUID(int=2)


def a_version(number: int, partner_id: UUID | None = None, structure: int = 7, name: str = "purchase") -> SchemaRef:
    return SchemaRef(UUID(int=structure), number, partner_id, name)


def an_index(*versions: tuple[SchemaRef, bool]) -> StructureIndex:
    index = StructureIndex()
    index.replace(versions)
    return index


def test_the_newest_published_version_decides_whatever_the_order_of_rows() -> None:
    index = an_index(
        (a_version(2), True), (a_version(4), False), (a_version(3), True), (a_version(1), True), (a_version(5), False)
    )

    assert index.find(PARTNER, "purchase", None) == a_version(3)
    assert index.find(PARTNER, "purchase", 4) == a_version(4)


def test_a_structure_with_no_published_version_holds_nobody_to_it() -> None:
    index = an_index((a_version(1), False))

    assert index.find(PARTNER, "purchase", None) is None
    assert index.find(PARTNER, "purchase", 1) == a_version(1)


def test_the_partners_own_structure_wins_over_the_global_one() -> None:
    own = a_version(1, PARTNER, structure=8)
    index = an_index((a_version(9), True), (own, True))

    assert index.find(PARTNER, "purchase", None) == own
    assert index.find(OTHER, "purchase", None) == a_version(9)
    with pytest.raises(Malformed):
        index.find(PARTNER, "purchase", 9)


def test_a_version_that_is_not_there_is_malformed_and_a_name_that_is_not_there_is_free() -> None:
    index = an_index((a_version(1, PARTNER), True))

    with pytest.raises(Malformed) as failure:
        index.find(PARTNER, "purchase", 2)
    assert failure.value.code == "unknown_schema_version"
    assert index.find(PARTNER, "page_view", 2) is None
    assert index.find(OTHER, "purchase", 2) is None


def test_a_name_is_registered_for_its_partner_or_for_all() -> None:
    index = an_index((a_version(1, PARTNER), True), (a_version(1, name="login", structure=9), False))

    assert index.is_registered(PARTNER, "purchase")
    assert not index.is_registered(OTHER, "purchase")
    assert index.is_registered(OTHER, "login")
    assert not index.is_registered(OTHER, "page_view")


def test_the_index_that_is_read_again_replaces_the_one_before() -> None:
    index = an_index((a_version(1), True))

    index.replace([(a_version(1, name="login"), True)])

    assert index.find(PARTNER, "purchase", None) is None
    assert index.find(PARTNER, "login", None) == a_version(1, name="login")


def test_a_validator_is_asked_for_until_it_is_loaded_and_the_oldest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_index, "_MAX_COMPILED_SCHEMAS", 2)
    index, validator = StructureIndex(), compile_schema({"type": "object"})
    with pytest.raises(SchemaNotLoaded) as failure:
        index.get_validator(a_version(1))
    assert failure.value.wanted == a_version(1)

    for number in (1, 2, 3):
        index.add_validator(a_version(number), validator)

    assert index.get_validator(a_version(2)) is index.get_validator(a_version(3)) is validator
    with pytest.raises(SchemaNotLoaded):
        index.get_validator(a_version(1))
