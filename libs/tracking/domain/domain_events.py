"""Domain events: each says in the past tense what happened to an aggregate, with ids and a time, never a secret.

Aggregates collect them, and the command that saves an aggregate inserts them in the same transaction. The caches are
updated by them, and they are the audit trail.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """Base class of domain events; `name` is the name of the class."""

    occurred_at: datetime

    @property
    def name(self) -> str:
        """The name under which the event is stored."""
        return type(self).__name__

    def payload(self) -> dict[str, Any]:
        """Return all fields except the time, ready for JSON."""
        return {
            item.name: str(value) if isinstance(value := getattr(self, item.name), UUID) else value
            for item in fields(self)
            if item.name != "occurred_at"
        }


@dataclass(frozen=True, slots=True)
class _OfPartner(DomainEvent):
    partner_id: UUID


class PartnerRegistered(_OfPartner):
    """A partner was registered."""


class PartnerUpdated(_OfPartner):
    """The partner's name or address changed. Cached API keys contain the name."""


class PartnerDeactivated(_OfPartner):
    """The partner was deactivated. None of its systems may send events any more."""


class PartnerActivated(_OfPartner):
    """The partner was activated. Its active systems may send events again."""


@dataclass(frozen=True, slots=True)
class _OfSystem(DomainEvent):
    partner_id: UUID
    partner_system_id: UUID


class PartnerSystemRegistered(_OfSystem):
    """A partner system was registered."""


class PartnerSystemUpdated(_OfSystem):
    """The system's name, type or description changed. Cached API keys contain the name."""


class PartnerSystemSettingsChanged(_OfSystem):
    """The system's origins, rate limit or privacy settings changed. Cached API keys contain them."""


class PartnerSystemDeactivated(_OfSystem):
    """The system was deactivated. It may not send events any more."""


class PartnerSystemActivated(_OfSystem):
    """The system was activated. It may send events again if its partner is active."""


@dataclass(frozen=True, slots=True)
class _OfKey(DomainEvent):
    partner_system_id: UUID
    key_id: UUID


class ApiKeyIssued(_OfKey):
    """An API key was issued."""


@dataclass(frozen=True, slots=True)
class ApiKeyRotated(_OfKey):
    """The API key was replaced by `successor_id`. It works until its grace period ends."""

    successor_id: UUID


class ApiKeyRevoked(_OfKey):
    """The API key was revoked and no longer works."""


@dataclass(frozen=True, slots=True)
class _OfStructure(DomainEvent):
    structure_id: UUID
    partner_id: UUID | None
    event_name: str
    version: int


class StructureDrafted(_OfStructure):
    """A version of an event structure was saved as a draft. Events are not validated against it yet."""


class StructurePublished(_OfStructure):
    """A version was published. Events are validated against the highest published version."""


class StructureDeprecated(_OfStructure):
    """A version was deprecated. Events are validated against it only if they name it."""


@dataclass(frozen=True, slots=True)
class _OfToken(DomainEvent):
    token_id: UUID


class AccessTokenIssued(_OfToken):
    """An access token was issued."""


class AccessTokenRevoked(_OfToken):
    """The access token was revoked and no longer works."""
