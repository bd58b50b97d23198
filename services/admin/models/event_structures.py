"""Bodies, parameters and responses of the routes of event structures and their versions."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import ConfigDict, Field, StrictBool

from services.admin.models.pages import FilterText, Page, PageParameters
from tracking.domain.event_structure import VersionStatus
from tracking.http.json_api import JsonModel

_SCHEMA = {
    "type": "object",
    "required": ["price"],
    "properties": {"price": {"type": "number", "minimum": 0}},
}
# check_schema decides which schemas are allowed, and explains what is wrong with one that is not.
Schema = Annotated[
    Any,
    Field(
        alias="schema",
        description="JSON Schema draft-07, as an object or as a JSON string of one.",
        json_schema_extra={"type": ["object", "boolean", "string"]},
        examples=[_SCHEMA],
    ),
]


class StructureFilter(PageParameters):
    """Selects the structures of an event name."""

    event_name: FilterText | None = None


class NewStructure(JsonModel):
    """An event structure to define, with its first version."""

    event_name: Annotated[str, Field(min_length=1, max_length=200, examples=["purchase"])]
    description: Annotated[str, Field(max_length=1000, examples=["A paid order"])] = ""
    schema_: Schema
    publish: StrictBool = True


class NewVersion(JsonModel):
    """The next version to add to a structure."""

    schema_: Schema
    publish: StrictBool = True


class VersionAnswer(JsonModel):
    """One version of an event structure."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    status: VersionStatus
    schema_: Annotated[Any, Field(alias="schema", validation_alias="schema", examples=[_SCHEMA])]
    created_at: datetime
    published_at: datetime | None
    deprecated_at: datetime | None


class VersionList(JsonModel):
    """All versions of a structure."""

    items: list[VersionAnswer]
    total_count: int


class StructureAnswer(JsonModel):
    """An event structure with its versions. A partnerId of null means that the structure is global."""

    id: UUID
    partner_id: UUID | None
    event_name: Annotated[str, Field(examples=["purchase"])]
    description: str
    current_version: int | None
    versions: list[VersionAnswer]
    created_at: datetime
    updated_at: datetime


class StructureSummary(JsonModel):
    """An event structure as it stands in a list."""

    id: UUID
    partner_id: UUID | None
    event_name: Annotated[str, Field(examples=["purchase"])]
    description: str
    current_version: int | None
    latest_version: int
    created_at: datetime
    updated_at: datetime


class StructurePage(Page[StructureSummary]):
    """A page of event structures."""
