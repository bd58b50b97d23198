"""Parameters and responses of the routes of rejected events."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.admin.models.pages import EXAMPLE_PARTNER_ID, EXAMPLE_SYSTEM_ID, Page, PageParameters
from tracking.http.json_api import FieldFault, JsonModel


class RejectedEventFilter(PageParameters):
    """Selects the rejected events of a partner system, or those rejected for a reason."""

    partner_system_id: UUID | None = None
    reason: Annotated[str | None, Field(max_length=100, pattern=r"^[a-z_]+$", examples=["invalid_event"])] = None


class RejectedEventAnswer(JsonModel):
    """A rejected event, or a rejected request, of a sender whose API key is known.

    Up to 1 000 of them are kept for each system, for 30 days.
    """

    id: Annotated[UUID, Field(examples=["019b4fe1-9c40-7d2a-8f3b-5b2e6c9d1a01"])]
    partner_system_id: Annotated[UUID, Field(examples=[EXAMPLE_SYSTEM_ID])]
    system_name: Annotated[str | None, Field(examples=["Acme Website"])]
    partner_id: Annotated[UUID | None, Field(examples=[EXAMPLE_PARTNER_ID])]
    refused_at: Annotated[datetime, Field(examples=["2025-12-24T10:30:00.123Z"])]
    route: Annotated[str, Field(examples=["/api/events/batch"])]
    position: Annotated[int | None, Field(description="within its batch, from 0; null: the whole request")]
    reason: Annotated[str, Field(examples=["invalid_event"])]
    message: Annotated[str, Field(examples=["Not an event: eventName: required."])]
    details: list[FieldFault]
    raw: Annotated[
        str | None,
        Field(
            description=(
                "What was sent, without keys: its beginning in a list, up to 64 KiB alone. null if its system has "
                "privacy rules, or nothing was read."
            )
        ),
    ]
    raw_bytes: Annotated[int, Field(description="length of what was sent", examples=[412])]
    correlation_id: str


class RejectedEventPage(Page[RejectedEventAnswer]):
    """A page of rejected events, the newest first."""
