"""The rules of partners and their systems."""

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tracking.domain import domain_events
from tracking.domain.domain_events import DomainEvent
from tracking.domain.errors import Malformed
from tracking.domain.partner import Partner, PartnerSystem, SystemType

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def a_partner() -> Partner:
    partner = Partner.register(UUID(int=1), "Acme Corp", "admin@acme.com", NOON)
    partner.pull_events()
    return partner


def a_system(partner: Partner) -> PartnerSystem:
    system = PartnerSystem.register(UUID(int=2), partner, "Website", SystemType.WEBSITE, "Main", NOON)
    system.pull_events()
    return system


def names(events: list[DomainEvent]) -> list[str]:
    return [event.name for event in events]


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, "a\x00b"])
def test_a_partner_cannot_have_such_a_name(name: str) -> None:
    with pytest.raises(Malformed):
        Partner.register(UUID(int=1), name, "admin@acme.com", NOON)


@pytest.mark.parametrize("email", ["", "a", "a@b", "@b.c", "a b@c.de", "a@@b.cd", "a@b.", "x" * 65 + "@b.cd"])
def test_a_partner_cannot_have_such_an_address(email: str) -> None:
    with pytest.raises(Malformed):
        Partner.register(UUID(int=1), "Acme", email, NOON)


def test_a_name_and_an_address_are_kept_without_the_space_around_them() -> None:
    partner = Partner.register(UUID(int=1), " Acme Corp\n", "\tAdmin@acme.com ", NOON)

    assert (partner.name, partner.email) == ("Acme Corp", "Admin@acme.com")


def test_a_change_that_is_rejected_changes_nothing() -> None:
    partner = a_partner()

    with pytest.raises(Malformed):
        partner.update(LATER, name="New", email="no address")

    assert (partner.name, partner.updated_at) == ("Acme Corp", NOON)
    assert partner.pull_events() == []


def test_a_change_to_the_same_is_no_change() -> None:
    partner = a_partner()

    partner.update(LATER, name="Acme Corp")

    assert partner.pull_events() == []
    assert partner.updated_at == NOON


def test_a_change_always_looks_later_than_the_one_before() -> None:
    partner = a_partner()
    partner.update(LATER, name="One")

    partner.update(NOON, name="Two")

    assert partner.updated_at > LATER


def test_a_system_is_deactivated_and_activated_again() -> None:
    system = a_system(a_partner())
    system.pull_events()

    system.deactivate(NOON)
    assert not system.is_active
    system.activate(LATER)

    assert system.is_active
    assert names(system.pull_events()) == ["PartnerSystemDeactivated", "PartnerSystemActivated"]


def test_deactivating_twice_happens_once() -> None:
    partner = a_partner()

    partner.deactivate(NOON)
    partner.deactivate(LATER)

    assert names(partner.pull_events()) == ["PartnerDeactivated"]
    assert partner.deactivated_at == NOON


@pytest.mark.parametrize("change", [{"name": " "}, {"description": "x" * 1001}, {"name": "B", "description": "\x00"}])
def test_a_rejected_change_of_a_system_changes_nothing(change: dict[str, str]) -> None:
    system = a_system(a_partner())

    with pytest.raises(Malformed):
        system.update(LATER, name=change.get("name"), description=change.get("description"))

    assert (system.name, system.description, system.updated_at) == ("Website", "Main", NOON)
    assert system.pull_events() == []


def test_a_system_changes_only_what_is_given() -> None:
    system = a_system(a_partner())

    system.update(LATER, type=SystemType.OTHER, description="")

    assert (system.name, system.type, system.description, system.updated_at) == ("Website", 99, "", LATER)
    assert names(system.pull_events()) == ["PartnerSystemUpdated"]


def test_there_are_seven_types_of_system() -> None:
    assert {kind.value for kind in SystemType} == {1, 2, 3, 4, 5, 6, 99}


def test_domain_events_name_ids_and_are_ready_for_json() -> None:
    system = a_system(a_partner())

    system.deactivate(LATER)

    [event] = system.pull_events()
    assert event.occurred_at == LATER
    assert json.loads(json.dumps(event.payload())) == {
        "partner_id": str(UUID(int=1)),
        "partner_system_id": str(UUID(int=2)),
    }
    assert system.pull_events() == []


def test_a_restored_aggregate_has_no_history() -> None:
    partner = Partner.restore(
        id=UUID(int=1), name="A", email="a@b.cd", deactivated_at=LATER, created_at=NOON, updated_at=LATER
    )

    assert not partner.is_active
    assert partner.pull_events() == []


def test_no_event_has_room_for_a_secret() -> None:
    kinds = [kind for kind in vars(domain_events).values() if isinstance(kind, type) and issubclass(kind, DomainEvent)]

    held = {item.name for kind in kinds for item in fields(kind)}

    ids = {"partner_id", "partner_system_id", "key_id", "successor_id", "structure_id", "token_id"}
    assert held == ids | {"occurred_at", "event_name", "version"}
