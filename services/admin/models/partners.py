"""Bodies, parameters and responses of the routes of partners."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.admin.models.pages import EXAMPLE_PARTNER_ID, EXAMPLE_TIMESTAMP, FilterText, Page, PageParameters
from tracking.http.json_api import JsonModel

Email = Annotated[str, Field(min_length=3, max_length=255, examples=["admin@acme.com"])]


class PartnerFilter(PageParameters):
    """Selects the partners that are active or inactive, or the one with an address."""

    is_active: bool | None = None
    email: FilterText | None = None


class NewPartner(JsonModel):
    """A partner to register."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Acme Corp"])]
    email: Email


class PartnerChange(JsonModel):
    """The fields of a partner to change. A field that is left out keeps its value."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Acme Corp"])] | None = None
    email: Email | None = None


class PartnerAnswer(JsonModel):
    """A partner."""

    id: Annotated[UUID, Field(examples=[EXAMPLE_PARTNER_ID])]
    name: str
    email: str
    is_active: bool
    deactivated_at: datetime | None
    created_at: Annotated[datetime, Field(examples=[EXAMPLE_TIMESTAMP])]
    updated_at: Annotated[datetime, Field(examples=[EXAMPLE_TIMESTAMP])]


class RegisteredPartner(JsonModel):
    """A partner that was just registered."""

    id: Annotated[UUID, Field(examples=[EXAMPLE_PARTNER_ID])]
    name: Annotated[str, Field(examples=["Acme Corp"])]
    email: Annotated[str, Field(examples=["admin@acme.com"])]
    is_active: bool


class PartnerPage(Page[PartnerAnswer]):
    """A page of partners."""
