"""Bodies, parameters and responses of the routes of partner systems."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, Field

from services.admin.models.pages import (
    EXAMPLE_API_KEY,
    EXAMPLE_PARTNER_ID,
    EXAMPLE_SYSTEM_ID,
    EXAMPLE_TIMESTAMP,
    Description,
    Name,
    Page,
    PageParameters,
    require_whole_number,
)
from services.admin.models.system_settings import SettingsAnswer, SettingsChange
from tracking.domain.partner import SystemType
from tracking.http.json_api import JsonModel

Type = Annotated[
    SystemType,
    BeforeValidator(require_whole_number),
    Field(
        description="1 website, 2 iOS app, 3 Android app, 4 backend service, 5 mobile web, 6 desktop app, 99 other",
        examples=[1],
    ),
]


class SystemFilter(PageParameters):
    """Selects the systems of a partner, or those that are active or inactive."""

    partner_id: UUID | None = None
    is_active: bool | None = None


class NewSystem(JsonModel):
    """A system to register."""

    partner_id: Annotated[UUID, Field(examples=[EXAMPLE_PARTNER_ID])]
    name: Name
    type: Type
    description: Description = ""
    settings: SettingsChange | None = None


class SystemChange(JsonModel):
    """The fields of a partner system to change. A field that is left out keeps its value."""

    name: Name | None = None
    type: Type | None = None
    description: Description | None = None
    settings: SettingsChange | None = None


class SystemAnswer(JsonModel):
    """A partner system."""

    id: Annotated[UUID, Field(examples=[EXAMPLE_SYSTEM_ID])]
    partner_id: Annotated[UUID, Field(examples=[EXAMPLE_PARTNER_ID])]
    name: str
    type: SystemType
    description: str
    settings: SettingsAnswer
    is_active: bool
    deactivated_at: datetime | None
    created_at: Annotated[datetime, Field(examples=[EXAMPLE_TIMESTAMP])]
    updated_at: Annotated[datetime, Field(examples=[EXAMPLE_TIMESTAMP])]


class RegisteredSystem(JsonModel):
    """A system that was just registered, with its first key. The key is shown only in this response."""

    id: Annotated[UUID, Field(examples=[EXAMPLE_SYSTEM_ID])]
    partner_id: Annotated[UUID, Field(examples=[EXAMPLE_PARTNER_ID])]
    name: str
    type: SystemType
    description: str
    api_key: Annotated[str, Field(examples=[EXAMPLE_API_KEY])]
    is_active: bool
    settings: Annotated[
        SettingsAnswer | None,
        Field(description="Only where settings were given.", exclude_if=lambda settings: settings is None),
    ] = None


class SystemPage(Page[SystemAnswer]):
    """A page of partner systems."""
