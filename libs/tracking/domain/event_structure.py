"""The JSON Schema that events of a name must meet: versioned, immutable once published.

A global structure counts for every partner; a partner's own structure of the same event name wins over it. Whether a
schema is valid and safe is checked before it is registered (infra/validation); this module knows no JSON Schema.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from tracking.domain import domain_events
from tracking.domain.aggregate import Aggregate, advance_updated_at
from tracking.domain.checks import MAX_DESCRIPTION_CHARACTERS, MAX_NAME_CHARACTERS, check_text
from tracking.domain.errors import Conflict, NotFound


class VersionStatus(StrEnum):
    """The status of a schema version.

    Drafts are not used. Events are validated against the highest published version by default, and against a deprecated
    one only if they name it.
    """

    DRAFT = "draft"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"


@dataclass(frozen=True, slots=True)
class StructureVersion:
    """One immutable schema of a structure. Versions are numbered from 1 without gaps.

    A change of status creates a new object with the same schema.
    """

    version: int
    schema: Any
    status: VersionStatus
    created_at: datetime
    published_at: datetime | None = None
    deprecated_at: datetime | None = None


class EventStructure(Aggregate):
    """A global structure. Create one with `define`; `restore_structure` is only for loading from the database."""

    __slots__ = ("_changed", "created_at", "description", "event_name", "id", "partner_id", "updated_at", "versions")

    def __init__(
        self,
        id: UUID,
        event_name: str,
        description: str,
        versions: list[StructureVersion],
        created_at: datetime,
        updated_at: datetime,
        partner_id: UUID | None = None,
    ) -> None:
        super().__init__()
        if [version.version for version in versions] != list(range(1, len(versions) + 1)):
            raise ValueError("versions count from 1 without gaps")
        self.id = id
        self.partner_id = partner_id
        self.event_name = check_text("eventName", event_name, 1, MAX_NAME_CHARACTERS)
        self.description = check_text("description", description, 0, MAX_DESCRIPTION_CHARACTERS)
        self.versions = versions
        self.created_at = created_at
        self.updated_at = updated_at
        self._changed: set[int] = set()

    @property
    def changed_versions(self) -> list[StructureVersion]:
        """The versions added, or changed in status, since the structure was created or loaded."""
        return [version for version in self.versions if version.version in self._changed]

    @property
    def current(self) -> StructureVersion | None:
        """The version that events are validated against by default: the highest published one."""
        published = [version for version in self.versions if version.status is VersionStatus.PUBLISHED]
        return published[-1] if published else None

    def add_version(self, schema: Any, now: datetime, *, publish: bool) -> StructureVersion:
        """Add the next version, as a draft or published at once."""
        version = StructureVersion(len(self.versions) + 1, schema, VersionStatus.DRAFT, now)
        self.versions.append(version)
        self._record_change(domain_events.StructureDrafted, version, now)
        return self.publish(version.version, now) if publish else version

    def publish(self, number: int, now: datetime) -> StructureVersion:
        """Publish a draft. Raises NotFound, or Conflict if the version is not a draft."""
        version = self.get_version(number)
        if version.status is not VersionStatus.DRAFT:
            raise Conflict("version_not_draft", f"Version {number} is {version.status}; only a draft can be published.")
        published = replace(version, status=VersionStatus.PUBLISHED, published_at=now)
        self.versions[number - 1] = published
        self._record_change(domain_events.StructurePublished, published, now)
        return published

    def deprecate(self, number: int, now: datetime) -> StructureVersion:
        """Deprecate a published version, so that the highest other published one is used.

        Raises NotFound, or Conflict if the version is not published.
        """
        version = self.get_version(number)
        if version.status is not VersionStatus.PUBLISHED:
            raise Conflict(
                "version_not_published",
                f"Version {number} is {version.status}; only a published one can be deprecated.",
            )
        deprecated = replace(version, status=VersionStatus.DEPRECATED, deprecated_at=now)
        self.versions[number - 1] = deprecated
        self._record_change(domain_events.StructureDeprecated, deprecated, now)
        return deprecated

    def get_version(self, number: int) -> StructureVersion:
        """Return the version with this number. Raises NotFound."""
        if not 1 <= number <= len(self.versions):
            raise NotFound("version_not_found", f"{self.event_name!r} has no version {number}.")
        return self.versions[number - 1]

    def _record_change(self, event_class: Any, version: StructureVersion, now: datetime) -> None:
        self.updated_at = advance_updated_at(self.updated_at, now)
        self._changed.add(version.version)
        self._record(event_class(now, self.id, self.partner_id, self.event_name, version.version))

    @classmethod
    def define(cls, id: UUID, event_name: str, description: str, now: datetime) -> Self:
        """Create a global structure that has no version yet. Raises Malformed."""
        return cls(id, event_name, description, [], now, now)


class PartnerEventStructure(EventStructure):
    """A partner's own structure, which wins over the global one of the same name."""

    __slots__ = ()

    @classmethod
    def define_for_partner(cls, partner_id: UUID, id: UUID, event_name: str, description: str, now: datetime) -> Self:
        """Create a partner's structure that has no version yet. Raises Malformed."""
        return cls(id, event_name, description, [], now, now, partner_id)


def restore_structure(
    *,
    id: UUID,
    partner_id: UUID | None,
    event_name: str,
    description: str,
    versions: list[StructureVersion],
    created_at: datetime,
    updated_at: datetime,
) -> EventStructure:
    """Rebuild a structure, global or a partner's, from its saved values. This records no domain event."""
    kind = EventStructure if partner_id is None else PartnerEventStructure
    return kind(id, event_name, description, versions, created_at, updated_at, partner_id)
