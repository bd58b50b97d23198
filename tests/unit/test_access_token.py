"""The rules of access tokens."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tracking.domain.access_token import AccessToken, Scope
from tracking.domain.errors import Malformed

NOON = datetime(2025, 12, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def test_an_admin_token_is_not_limited_to_a_partner() -> None:
    with pytest.raises(Malformed):
        AccessToken.issue(UUID(int=6), "t", "tk_x", Scope.ADMIN, NOON, partner_id=UUID(int=1))


def test_a_token_ends_by_time_or_by_revocation() -> None:
    token = AccessToken.issue(UUID(int=6), "t", "tk_x", Scope.READ, NOON, expires_at=LATER)

    assert token.is_usable(NOON)
    assert not token.is_usable(LATER)
    token.revoke(NOON)
    assert not token.is_usable(NOON)
    assert [event.name for event in token.pull_events()] == ["AccessTokenIssued", "AccessTokenRevoked"]
