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
    """A partner is new."""


class PartnerUpdated(_OfPartner):
    """Its name or address changed; its keys carry the name."""


class PartnerDeactivated(_OfPartner):
    """None of its systems may send any more."""


class PartnerActivated(_OfPartner):
    """Its active systems may send again."""


@dataclass(frozen=True, slots=True)
class _OfSystem(DomainEvent):
    partner_id: UUID
    partner_system_id: UUID


class PartnerSystemRegistered(_OfSystem):
    """A system is new."""


class PartnerSystemUpdated(_OfSystem):
    """Its name, type or description changed; its keys carry the name."""


class PartnerSystemSettingsChanged(_OfSystem):
    """Its origins, rate limit or privacy changed; its keys carry them."""


class PartnerSystemDeactivated(_OfSystem):
    """It may not send any more."""


class PartnerSystemActivated(_OfSystem):
    """It may send again, if its partner may."""


@dataclass(frozen=True, slots=True)
class _OfKey(DomainEvent):
    partner_system_id: UUID
    key_id: UUID


class ApiKeyIssued(_OfKey):
    """A key is new."""


@dataclass(frozen=True, slots=True)
class ApiKeyRotated(_OfKey):
    """The key was replaced by `successor_id` and works until its grace ends."""

    successor_id: UUID


class ApiKeyRevoked(_OfKey):
    """The key works no more."""


@dataclass(frozen=True, slots=True)
class _OfStructure(DomainEvent):
    structure_id: UUID
    partner_id: UUID | None
    event_name: str
    version: int


class StructureDrafted(_OfStructure):
    """A version was written down and does not count yet."""


class StructurePublished(_OfStructure):
    """Events are held against this version from now on."""


class StructureDeprecated(_OfStructure):
    """The version is no longer chosen by itself; events may still name it."""


@dataclass(frozen=True, slots=True)
class _OfToken(DomainEvent):
    token_id: UUID


class AccessTokenIssued(_OfToken):
    """A token is new."""


class AccessTokenRevoked(_OfToken):
    """The token works no more."""


class AccessTokenReinstated(_OfToken):
    """The token that the environment names works again."""
