"""The rules of API keys, and of secrets that are shown once."""

from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from uuid import UUID

import pytest

from tracking.domain.api_key import ApiKey
from tracking.domain.credentials import Fingerprint, generate_secret
from tracking.domain.errors import Conflict, Malformed

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def a_key(expires_at: datetime | None = None) -> ApiKey:
    key = ApiKey.issue(UUID(int=3), UUID(int=2), "default", "sk_secret", NOON, expires_at)
    key.pull_events()
    return key


def test_a_secret_has_its_prefix_and_32_characters_and_is_never_the_same() -> None:
    made = {generate_secret("sk_") for _ in range(100)}

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
    assert (successor.partner_system_id, successor.name) == (key.partner_system_id, key.name)
    [rotated] = key.pull_events()
    [issued] = successor.pull_events()
    assert (rotated.name, rotated.payload()["successor_id"]) == ("ApiKeyRotated", str(UUID(int=4)))
    assert (issued.name, issued.payload()["key_id"]) == ("ApiKeyIssued", str(UUID(int=4)))


def test_a_grace_of_nothing_ends_the_old_key_at_once() -> None:
    key = a_key()

    key.rotate(UUID(int=4), "sk_other", NOON, timedelta())

    assert not key.is_usable(NOON)


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


@pytest.mark.parametrize(
    "expires_at",
    [
        NOON,
        NOON - timedelta(days=1),
        LATER.replace(tzinfo=None),
        datetime(9999, 12, 31, 23, 59, tzinfo=timezone(-timedelta(hours=14))),
    ],
)
def test_a_key_cannot_expire_then(expires_at: datetime) -> None:
    with pytest.raises(Malformed) as rejected:
        a_key(expires_at=expires_at)

    assert [detail["field"] for detail in rejected.value.details] == ["expiresAt"]


def test_an_expiry_is_kept_in_utc() -> None:
    key = a_key(expires_at=datetime(2025, 12, 24, 15, tzinfo=timezone(timedelta(hours=2))))

    assert key.expires_at is not None
    assert key.expires_at.isoformat() == "2025-12-24T13:00:00+00:00"


def test_a_fingerprint_holds_a_whole_hash() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Fingerprint(b"short", "sk_", "cret")
