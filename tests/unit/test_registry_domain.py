"""The rules of partners, systems, keys, structures and tokens, in plain Python."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from tracking.domain.access_token import AccessToken, Scope
from tracking.domain.api_key import ApiKey
from tracking.domain.credentials import Fingerprint, make_secret
from tracking.domain.domain_events import DomainEvent
from tracking.domain.errors import Conflict, Malformed, NotFound
from tracking.domain.event_structure import (
    EventStructure,
    PartnerEventStructure,
    StructureVersion,
    VersionStatus,
    restore_structure,
)
from tracking.domain.partner import Partner, PartnerSystem, SystemType

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def a_partner() -> Partner:
    partner = Partner.register(UUID(int=1), "Acme Corp", "admin@acme.com", NOON)
    partner.take_events()
    return partner


def a_system(partner: Partner) -> PartnerSystem:
    system = PartnerSystem.register(UUID(int=2), partner, "Website", SystemType.WEBSITE, "Main", NOON)
    system.take_events()
    return system


def a_key(expires_at: datetime | None = None) -> ApiKey:
    key = ApiKey.issue(UUID(int=3), UUID(int=2), "default", "sk_secret", NOON, expires_at)
    key.take_events()
    return key


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


def test_a_change_that_is_refused_changes_nothing() -> None:
    partner = a_partner()

    with pytest.raises(Malformed):
        partner.update(LATER, name="New", email="no address")

    assert (partner.name, partner.updated_at) == ("Acme Corp", NOON)
    assert partner.take_events() == []


def test_a_change_to_the_same_is_no_change() -> None:
    partner = a_partner()

    partner.update(LATER, name="Acme Corp")

    assert partner.take_events() == []
    assert partner.updated_at == NOON


def test_a_deactivated_partner_silences_its_systems_without_changing_them() -> None:
    partner = a_partner()
    system = a_system(partner)

    partner.deactivate(LATER)

    assert not system.accepts_events_of(partner)
    assert system.is_active
    partner.activate(LATER)
    assert system.accepts_events_of(partner)


def test_deactivating_twice_happens_once() -> None:
    partner = a_partner()

    partner.deactivate(NOON)
    partner.deactivate(LATER)

    assert names(partner.take_events()) == ["PartnerDeactivated"]
    assert partner.deactivated_at == NOON


def test_a_system_belongs_to_one_partner() -> None:
    system = a_system(a_partner())
    other = Partner.register(UUID(int=9), "Other", "other@acme.com", NOON)

    assert system.partner_id == UUID(int=1)
    with pytest.raises(ValueError, match="not the partner"):
        system.accepts_events_of(other)


def test_what_happened_names_ids_and_is_ready_for_json() -> None:
    system = a_system(a_partner())

    system.deactivate(LATER)

    [event] = system.take_events()
    assert event.occurred_at == LATER
    assert json.loads(json.dumps(event.payload())) == {
        "partner_id": str(UUID(int=1)),
        "partner_system_id": str(UUID(int=2)),
    }
    assert system.take_events() == []


def test_a_restored_aggregate_has_no_history() -> None:
    partner = Partner.restore(
        id=UUID(int=1), name="A", email="a@b.cd", deactivated_at=LATER, created_at=NOON, updated_at=LATER
    )

    assert not partner.is_active
    assert partner.take_events() == []


def test_a_secret_has_its_prefix_and_32_characters_and_is_never_the_same() -> None:
    made = {make_secret("sk_") for _ in range(100)}

    assert len(made) == 100
    assert all(secret.startswith("sk_") and len(secret) == 35 and secret[3:].isalnum() for secret in made)


def test_only_the_fingerprint_of_a_key_is_kept() -> None:
    key = a_key()

    assert key.fingerprint == Fingerprint(sha256(b"sk_secret").digest(), "sk_", "cret")
    assert not any("sk_secret" in str(getattr(key, name)) for name in ApiKey.__slots__)


def test_a_rotated_key_works_until_its_grace_ends() -> None:
    key = a_key()

    successor = key.rotate(UUID(int=4), "sk_other", NOON, timedelta(minutes=5))

    assert key.is_usable(NOON + timedelta(minutes=4))
    assert not key.is_usable(NOON + timedelta(minutes=5))
    assert successor.is_usable(LATER)
    assert names(key.take_events() + successor.take_events()) == ["ApiKeyExpiryChanged", "ApiKeyIssued"]


def test_a_grace_never_lengthens_a_life() -> None:
    ends = NOON + timedelta(minutes=1)
    key = a_key(expires_at=ends)

    key.rotate(UUID(int=4), "sk_other", NOON, timedelta(days=1))

    assert key.expires_at == ends


@pytest.mark.parametrize("grace", [timedelta(seconds=-1), timedelta(days=91)])
def test_a_grace_has_bounds(grace: timedelta) -> None:
    with pytest.raises(Malformed):
        a_key().rotate(UUID(int=4), "sk_other", NOON, grace)


def test_a_revoked_key_is_revoked_for_good() -> None:
    key = a_key()
    key.revoke(NOON)
    key.revoke(LATER)

    assert key.revoked_at == NOON
    assert not key.is_usable(NOON)
    with pytest.raises(Conflict):
        key.rotate(UUID(int=4), "sk_other", NOON, timedelta())


def test_a_key_cannot_be_born_expired() -> None:
    with pytest.raises(Malformed):
        a_key(expires_at=NOON)


def test_the_highest_published_version_counts() -> None:
    structure = EventStructure.define(UUID(int=5), "purchase", "", NOON)
    structure.add_version({"a": 1}, NOON, publish=True)
    structure.add_version({"a": 2}, NOON, publish=False)
    assert structure.current is structure.version(1)

    structure.publish(2, LATER)
    assert structure.current is structure.version(2)

    structure.deprecate(2, LATER)
    assert structure.current is structure.version(1)
    assert names(structure.take_events()) == [
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


def test_an_admin_token_is_not_limited_to_a_partner() -> None:
    with pytest.raises(Malformed):
        AccessToken.issue(UUID(int=6), "t", "tk_x", Scope.ADMIN, NOON, partner_id=UUID(int=1))


def test_a_token_ends_by_time_or_by_revocation() -> None:
    token = AccessToken.issue(UUID(int=6), "t", "tk_x", Scope.READ, NOON, expires_at=LATER)

    assert token.is_usable(NOON)
    assert not token.is_usable(LATER)
    token.revoke(NOON)
    assert not token.is_usable(NOON)
    assert names(token.take_events()) == ["AccessTokenIssued", "AccessTokenRevoked"]
