"""A partner and its systems, the sources of events.

Rules: an address belongs to one partner; a system belongs to one partner for good; a deactivated partner silences its
systems without changing their own state.
"""

from datetime import datetime
from enum import IntEnum
from typing import Self
from uuid import UUID

from tracking.domain import domain_events
from tracking.domain.aggregate import Aggregate, advance_updated_at
from tracking.domain.checks import MAX_DESCRIPTION_CHARACTERS, MAX_NAME_CHARACTERS, check_email, check_text
from tracking.domain.system_settings import DEFAULT_SETTINGS, SystemSettings


class SystemType(IntEnum):
    """The kind of source that a partner system is. The numbers are those of the specification."""

    WEBSITE = 1
    IOS_APP = 2
    ANDROID_APP = 3
    BACKEND_SERVICE = 4
    MOBILE_WEB = 5
    DESKTOP_APP = 6
    OTHER = 99


class Partner(Aggregate):
    """An organisation that owns partner systems. Create one with `register`; `restore` is only for the database."""

    __slots__ = ("created_at", "deactivated_at", "email", "id", "name", "updated_at")

    def __init__(
        self,
        id: UUID,
        name: str,
        email: str,
        deactivated_at: datetime | None,
        created_at: datetime,
        updated_at: datetime,
    ) -> None:
        super().__init__()
        self.id = id
        self.name = check_text("name", name, 1, MAX_NAME_CHARACTERS)
        self.email = check_email(email)
        self.deactivated_at = deactivated_at
        self.created_at = created_at
        self.updated_at = updated_at

    @classmethod
    def register(cls, id: UUID, name: str, email: str, now: datetime) -> Self:
        """Create a new, active partner. Raises Malformed."""
        partner = cls(id, name, email, None, now, now)
        partner._record(domain_events.PartnerRegistered(now, id))
        return partner

    @classmethod
    def restore(
        cls,
        *,
        id: UUID,
        name: str,
        email: str,
        deactivated_at: datetime | None,
        created_at: datetime,
        updated_at: datetime,
    ) -> Self:
        """Rebuild the aggregate from its saved values. This records no domain event."""
        return cls(id, name, email, deactivated_at, created_at, updated_at)

    @property
    def is_active(self) -> bool:
        """Whether the partner's active systems may send events."""
        return self.deactivated_at is None

    def update(self, now: datetime, *, name: str | None = None, email: str | None = None) -> None:
        """Change the given fields of the partner. Raises Malformed, in which case nothing is changed."""
        new_name = self.name if name is None else check_text("name", name, 1, MAX_NAME_CHARACTERS)
        new_email = self.email if email is None else check_email(email)
        if (new_name, new_email) == (self.name, self.email):
            return
        self.name, self.email, self.updated_at = new_name, new_email, advance_updated_at(self.updated_at, now)
        self._record(domain_events.PartnerUpdated(now, self.id))

    def deactivate(self, now: datetime) -> None:
        """Stop all the partner's systems from sending events. Doing so again changes nothing."""
        if self.is_active:
            self.deactivated_at, self.updated_at = now, advance_updated_at(self.updated_at, now)
            self._record(domain_events.PartnerDeactivated(now, self.id))

    def activate(self, now: datetime) -> None:
        """Let the partner's active systems send events again. Doing so again changes nothing."""
        if not self.is_active:
            self.deactivated_at, self.updated_at = None, advance_updated_at(self.updated_at, now)
            self._record(domain_events.PartnerActivated(now, self.id))


class PartnerSystem(Aggregate):
    """A site, app or service of one partner. Create one with `register`; `restore` is only for the database."""

    __slots__ = (
        "created_at",
        "deactivated_at",
        "description",
        "id",
        "name",
        "partner_id",
        "settings",
        "type",
        "updated_at",
    )

    def __init__(
        self,
        id: UUID,
        partner_id: UUID,
        name: str,
        type: SystemType,
        description: str,
        settings: SystemSettings,
        deactivated_at: datetime | None,
        created_at: datetime,
        updated_at: datetime,
    ) -> None:
        super().__init__()
        self.id = id
        self.partner_id = partner_id
        self.name = check_text("name", name, 1, MAX_NAME_CHARACTERS)
        self.type = type
        self.description = check_text("description", description, 0, MAX_DESCRIPTION_CHARACTERS)
        self.settings = settings
        self.deactivated_at = deactivated_at
        self.created_at = created_at
        self.updated_at = updated_at

    @classmethod
    def register(
        cls,
        id: UUID,
        partner: Partner,
        name: str,
        type: SystemType,
        description: str,
        now: datetime,
        settings: SystemSettings = DEFAULT_SETTINGS,
    ) -> Self:
        """Create a new, active system of `partner`. Raises Malformed."""
        system = cls(id, partner.id, name, type, description, settings, None, now, now)
        system._record(domain_events.PartnerSystemRegistered(now, partner.id, id))
        return system

    @classmethod
    def restore(
        cls,
        *,
        id: UUID,
        partner_id: UUID,
        name: str,
        type: int,
        description: str,
        settings: SystemSettings,
        deactivated_at: datetime | None,
        created_at: datetime,
        updated_at: datetime,
    ) -> Self:
        """Rebuild the aggregate from its saved values. This records no domain event."""
        return cls(
            id, partner_id, name, SystemType(type), description, settings, deactivated_at, created_at, updated_at
        )

    @property
    def is_active(self) -> bool:
        """Whether the system itself is active, whatever the state of its partner."""
        return self.deactivated_at is None

    def update(
        self,
        now: datetime,
        *,
        name: str | None = None,
        type: SystemType | None = None,
        description: str | None = None,
    ) -> None:
        """Change the given fields of the system. Raises Malformed, in which case nothing is changed."""
        changed = (
            self.name if name is None else check_text("name", name, 1, MAX_NAME_CHARACTERS),
            self.type if type is None else type,
            self.description
            if description is None
            else check_text("description", description, 0, MAX_DESCRIPTION_CHARACTERS),
        )
        if changed == (self.name, self.type, self.description):
            return
        self.name, self.type, self.description = changed
        self.updated_at = advance_updated_at(self.updated_at, now)
        self._record(domain_events.PartnerSystemUpdated(now, self.partner_id, self.id))

    def change_settings(self, now: datetime, settings: SystemSettings) -> None:
        """Apply these settings to the system's future events. Equal settings change nothing."""
        if settings != self.settings:
            self.settings, self.updated_at = settings, advance_updated_at(self.updated_at, now)
            self._record(domain_events.PartnerSystemSettingsChanged(now, self.partner_id, self.id))

    def deactivate(self, now: datetime) -> None:
        """Stop the system from sending events. Doing so again changes nothing."""
        if self.is_active:
            self.deactivated_at, self.updated_at = now, advance_updated_at(self.updated_at, now)
            self._record(domain_events.PartnerSystemDeactivated(now, self.partner_id, self.id))

    def activate(self, now: datetime) -> None:
        """Let the system send events again. Doing so again changes nothing."""
        if not self.is_active:
            self.deactivated_at, self.updated_at = None, advance_updated_at(self.updated_at, now)
            self._record(domain_events.PartnerSystemActivated(now, self.partner_id, self.id))
