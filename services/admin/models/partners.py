"""Bodies, parameters and answers: pages of lists, partners, their systems and keys."""

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import BeforeValidator, Field

from services.admin.models.system_settings import SettingsAnswer, SettingsChange
from tracking.domain.partner import SystemType
from tracking.http.json_api import JsonModel

PARTNER_ID, SYSTEM_ID = "123e4567-e89b-12d3-a456-426614174000", "223e4567-e89b-12d3-a456-426614174001"
_KEY = "sk_JpR8xF2hNkT3vQwL9mYcD5sZ1aBeFg4H"
_AT = "2025-12-24T10:30:00Z"


def _whole_number(value: Any) -> Any:
    # pydantic would take true for 1
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200, examples=["Acme Website"])]
Email = Annotated[str, Field(min_length=3, max_length=255, examples=["admin@acme.com"])]
Description = Annotated[str, Field(max_length=1000, examples=["Main corporate website"])]
Type = Annotated[
    SystemType,
    BeforeValidator(_whole_number),
    Field(
        description="1 website, 2 iOS app, 3 Android app, 4 backend service, 5 mobile web, 6 desktop app, 99 other",
        examples=[1],
    ),
]
# PostgreSQL has no text with a NUL in it.
FilterText = Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")]


class PageParameters(JsonModel):
    """Which page of a list."""

    page_number: Annotated[int, Field(ge=1, le=1_000_000, examples=[1])] = 1
    page_size: Annotated[int, Field(ge=1, le=1000, examples=[100])] = 100

    @property
    def offset(self) -> int:
        """Rows before the page."""
        return (self.page_number - 1) * self.page_size


Item = TypeVar("Item", bound=JsonModel)


class Page(JsonModel, Generic[Item]):
    """A page of a list."""

    items: list[Item]
    total_count: int
    page_number: int
    page_size: int


class PartnerFilter(PageParameters):
    """Partners that are active or not, or have an address."""

    is_active: bool | None = None
    email: FilterText | None = None


class SystemFilter(PageParameters):
    """Systems of a partner, or that are active or not."""

    partner_id: UUID | None = None
    is_active: bool | None = None


class NewPartner(JsonModel):
    """A partner to register."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Acme Corp"])]
    email: Email


class PartnerChange(JsonModel):
    """What to change; what is left out stays."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Acme Corp"])] | None = None
    email: Email | None = None


class PartnerAnswer(JsonModel):
    """A partner."""

    id: Annotated[UUID, Field(examples=[PARTNER_ID])]
    name: str
    email: str
    is_active: bool
    deactivated_at: datetime | None
    created_at: Annotated[datetime, Field(examples=[_AT])]
    updated_at: Annotated[datetime, Field(examples=[_AT])]


class RegisteredPartner(JsonModel):
    """A partner that was just registered."""

    id: Annotated[UUID, Field(examples=[PARTNER_ID])]
    name: Annotated[str, Field(examples=["Acme Corp"])]
    email: Annotated[str, Field(examples=["admin@acme.com"])]
    is_active: bool


class PartnerPage(Page[PartnerAnswer]):
    """A page of partners."""


class NewSystem(JsonModel):
    """A system to register."""

    partner_id: Annotated[UUID, Field(examples=[PARTNER_ID])]
    name: Name
    type: Type
    description: Description = ""
    settings: SettingsChange | None = None


class SystemChange(JsonModel):
    """What to change; what is left out stays."""

    name: Name | None = None
    type: Type | None = None
    description: Description | None = None
    settings: SettingsChange | None = None


class SystemAnswer(JsonModel):
    """A partner system."""

    id: Annotated[UUID, Field(examples=[SYSTEM_ID])]
    partner_id: Annotated[UUID, Field(examples=[PARTNER_ID])]
    name: str
    type: SystemType
    description: str
    settings: SettingsAnswer
    is_active: bool
    deactivated_at: datetime | None
    created_at: Annotated[datetime, Field(examples=[_AT])]
    updated_at: Annotated[datetime, Field(examples=[_AT])]


class RegisteredSystem(JsonModel):
    """A system that was just registered, with its first key: the only time it is shown."""

    id: Annotated[UUID, Field(examples=[SYSTEM_ID])]
    partner_id: Annotated[UUID, Field(examples=[PARTNER_ID])]
    name: str
    type: SystemType
    description: str
    api_key: Annotated[str, Field(examples=[_KEY])]
    is_active: bool
    settings: Annotated[
        SettingsAnswer | None,
        Field(description="Only where settings were given.", exclude_if=lambda settings: settings is None),
    ] = None


class SystemPage(Page[SystemAnswer]):
    """A page of partner systems."""


class NewKey(JsonModel):
    """A further key."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["backend, October"])] = "default"
    expires_at: Annotated[datetime | None, Field(examples=["2030-01-01T00:00:00Z"])] = None


class Rotation(JsonModel):
    """How long the old key works on."""

    grace_seconds: Annotated[int, Field(ge=0, le=90 * 86400, examples=[86400])] = 86400


class KeyAnswer(JsonModel):
    """A key without its secret."""

    id: UUID
    name: str
    prefix: Annotated[str, Field(examples=["sk_"])]
    last_four: Annotated[str, Field(examples=["Fg4H"])]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    is_usable: bool


class IssuedKey(JsonModel):
    """A key that was just made: the only time its secret is shown."""

    id: UUID
    partner_system_id: Annotated[UUID, Field(examples=[SYSTEM_ID])]
    name: str
    api_key: Annotated[str, Field(examples=[_KEY])]
    created_at: datetime
    expires_at: datetime | None


class KeyList(JsonModel):
    """All keys of a system."""

    items: list[KeyAnswer]
    total_count: int
