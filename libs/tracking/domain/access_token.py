"""Access tokens: bearer secrets for admin or query, shown once, stored as a fingerprint, limited by their scope."""

from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from tracking.domain import domain_events
from tracking.domain.aggregate import Aggregate, advance_updated_at
from tracking.domain.checks import MAX_NAME_CHARACTERS, check_expiry, check_text
from tracking.domain.credentials import Fingerprint
from tracking.domain.errors import Malformed


class Scope(StrEnum):
    """`admin` may do everything, `read` may query: all partners or one."""

    ADMIN = "admin"
    READ = "read"


class AccessToken(Aggregate):
    """An access token. Create one with `issue`; `restore` is only for loading one from the database."""

    __slots__ = (
        "created_at",
        "expires_at",
        "fingerprint",
        "id",
        "name",
        "partner_id",
        "revoked_at",
        "scope",
        "updated_at",
    )

    def __init__(
        self,
        id: UUID,
        name: str,
        fingerprint: Fingerprint,
        scope: Scope,
        partner_id: UUID | None,
        created_at: datetime,
        expires_at: datetime | None,
        revoked_at: datetime | None,
        updated_at: datetime,
    ) -> None:
        super().__init__()
        if scope is Scope.ADMIN and partner_id is not None:
            fault = {"field": "partnerId", "message": "an admin token is not limited to a partner"}
            raise Malformed("invalid_body", f"partnerId: {fault['message']}.", [fault])
        self.id = id
        self.name = check_text("name", name, 1, MAX_NAME_CHARACTERS)
        self.fingerprint = fingerprint
        self.scope = scope
        self.partner_id = partner_id
        self.created_at = created_at
        self.expires_at = expires_at
        self.revoked_at = revoked_at
        self.updated_at = updated_at

    @classmethod
    def issue(
        cls,
        id: UUID,
        name: str,
        secret: str,
        scope: Scope,
        now: datetime,
        *,
        partner_id: UUID | None = None,
        expires_at: datetime | None = None,
    ) -> Self:
        """Create a token whose secret is `secret`. Only the fingerprint is kept. Raises Malformed."""
        expiry = check_expiry(expires_at, now)
        token = cls(id, name, Fingerprint.from_secret(secret), scope, partner_id, now, expiry, None, now)
        token._record(domain_events.AccessTokenIssued(now, id))
        return token

    @classmethod
    def restore(
        cls,
        *,
        id: UUID,
        name: str,
        fingerprint: Fingerprint,
        scope: str,
        partner_id: UUID | None,
        created_at: datetime,
        expires_at: datetime | None,
        revoked_at: datetime | None,
        updated_at: datetime,
    ) -> Self:
        """Rebuild the aggregate from its saved values. This records no domain event."""
        return cls(id, name, fingerprint, Scope(scope), partner_id, created_at, expires_at, revoked_at, updated_at)

    def is_usable(self, now: datetime) -> bool:
        """Return whether the token is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def revoke(self, now: datetime) -> None:
        """End the token at once and for good. Revoking it again changes nothing."""
        if self.revoked_at is None:
            self.revoked_at, self.updated_at = now, advance_updated_at(self.updated_at, now)
            self._record(domain_events.AccessTokenRevoked(now, self.id))
