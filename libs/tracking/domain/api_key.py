"""API keys of partner systems: shown once, stored as a fingerprint, rotated with a grace period, revoked for good."""

from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from tracking.domain import domain_events
from tracking.domain.aggregate import Aggregate
from tracking.domain.checks import MAX_NAME_CHARACTERS, check_expiry, check_text
from tracking.domain.credentials import Fingerprint
from tracking.domain.errors import Conflict, Malformed

MAX_GRACE_PERIOD = timedelta(days=90)


class ApiKey(Aggregate):
    """An API key. Create one with `issue` or `rotate`; `restore` is only for loading one from the database."""

    __slots__ = (
        "created_at",
        "expires_at",
        "fingerprint",
        "id",
        "last_used_at",
        "name",
        "partner_system_id",
        "revoked_at",
    )

    def __init__(
        self,
        id: UUID,
        partner_system_id: UUID,
        name: str,
        fingerprint: Fingerprint,
        created_at: datetime,
        expires_at: datetime | None,
        revoked_at: datetime | None,
        last_used_at: datetime | None,
    ) -> None:
        super().__init__()
        self.id = id
        self.partner_system_id = partner_system_id
        self.name = check_text("name", name, 1, MAX_NAME_CHARACTERS)
        self.fingerprint = fingerprint
        self.created_at = created_at
        self.expires_at = expires_at
        self.revoked_at = revoked_at
        self.last_used_at = last_used_at

    @classmethod
    def issue(
        cls,
        id: UUID,
        partner_system_id: UUID,
        name: str,
        secret: str,
        now: datetime,
        expires_at: datetime | None = None,
    ) -> Self:
        """Create a key whose secret is `secret`. Only the fingerprint is kept. Raises Malformed."""
        fingerprint = Fingerprint.from_secret(secret)
        key = cls(id, partner_system_id, name, fingerprint, now, check_expiry(expires_at, now), None, None)
        key._record(domain_events.ApiKeyIssued(now, partner_system_id, id))
        return key

    @classmethod
    def restore(
        cls,
        *,
        id: UUID,
        partner_system_id: UUID,
        name: str,
        fingerprint: Fingerprint,
        created_at: datetime,
        expires_at: datetime | None,
        revoked_at: datetime | None,
        last_used_at: datetime | None,
    ) -> Self:
        """Rebuild the aggregate from its saved values. This records no domain event."""
        return cls(id, partner_system_id, name, fingerprint, created_at, expires_at, revoked_at, last_used_at)

    def is_usable(self, now: datetime) -> bool:
        """Return whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)

    def rotate(self, id: UUID, secret: str, now: datetime, grace: timedelta) -> Self:
        """Return the key's successor. The old key works for `grace` longer, but never beyond its own expiry.

        Raises Conflict if the key is revoked or expired, and Malformed for a grace that is negative or over 90 days.
        """
        if not self.is_usable(now):
            raise Conflict("api_key_not_usable", "A revoked or expired key cannot be rotated; create a new one.")
        if not timedelta() <= grace <= MAX_GRACE_PERIOD:
            fault = {"field": "graceSeconds", "message": f"must be 0 to {int(MAX_GRACE_PERIOD.total_seconds())}"}
            raise Malformed("invalid_body", f"graceSeconds: {fault['message']}.", [fault])
        ends = now + grace
        if self.expires_at is None or self.expires_at > ends:
            self.expires_at = ends
        self._record(domain_events.ApiKeyRotated(now, self.partner_system_id, self.id, id))
        return type(self).issue(id, self.partner_system_id, self.name, secret, now)

    def revoke(self, now: datetime) -> None:
        """End the key at once and for good. Revoking it again changes nothing."""
        if self.revoked_at is None:
            self.revoked_at = now
            self._record(domain_events.ApiKeyRevoked(now, self.partner_system_id, self.id))
