"""Parameters and responses of the routes of dead letters."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.admin.models.pages import EXAMPLE_PARTNER_ID, Page, PageParameters
from tracking.domain.dead_letter import DeadLetterReason, DeadLetterState
from tracking.http.json_api import JsonModel

_ID, _BATCH_ID, _EVENT_ID = (
    "019b4fe1-9c40-7d2a-8f3b-5b2e6c9d1a01",
    "019b4fe1-2e40-7a31-9c1e-6c1f5d3a9b11",
    "019b4fe1-2e40-8a31-9c1e-6c1f5d3a9b10",
)
_AT = "2025-12-24T10:30:00Z"
_ERROR = 'CheckViolationError: new row for relation "tracking_events_read_model" violates check constraint'


class DeadLetterFilter(PageParameters):
    """Selects the dead letters of a consumer, or those in a state."""

    consumer: Annotated[str | None, Field(max_length=100, pattern=r"^[a-z_]+$", examples=["projector"])] = None
    state: Annotated[DeadLetterState | None, Field(examples=["open"])] = None


class DeadLetterSystem(JsonModel):
    """A partner system with events in the batch; names are null if the system is not known."""

    id: UUID
    name: Annotated[str | None, Field(examples=["Acme Website"])]
    partner_id: Annotated[UUID | None, Field(examples=[EXAMPLE_PARTNER_ID])]
    partner_name: Annotated[str | None, Field(examples=["Acme Corp"])]


class DeadLetterAnswer(JsonModel):
    """A batch that a consumer could not apply, or a message that holds no batch."""

    id: Annotated[UUID, Field(examples=[_ID])]
    consumer: Annotated[str, Field(examples=["projector"])]
    state: Annotated[
        DeadLetterState, Field(description="open waits for a decision; applied: it is in the inbox after all")
    ]
    reason: Annotated[DeadLetterReason, Field(examples=["not_applicable"])]
    error: Annotated[str | None, Field(description="what the consumer said", examples=[_ERROR])]
    batch_id: Annotated[UUID | None, Field(examples=[_BATCH_ID])]
    message_id: Annotated[str | None, Field(examples=[_BATCH_ID])]
    event_count: Annotated[int, Field(examples=[250])]
    partner_systems: list[DeadLetterSystem]
    deliveries: Annotated[int, Field(description="how often it was handed out the last time", examples=[21])]
    times: Annotated[int, Field(description="how often it was given up", examples=[1])]
    first_seen_at: Annotated[datetime, Field(examples=[_AT])]
    last_seen_at: Annotated[datetime, Field(examples=[_AT])]
    decided_at: Annotated[datetime | None, Field(examples=[_AT])]


class WholeDeadLetterAnswer(DeadLetterAnswer):
    """A dead letter with the ids of its events and the beginning of its message."""

    event_ids: Annotated[list[UUID], Field(examples=[[_EVENT_ID]])]
    body_bytes: Annotated[int, Field(description="length of the whole message", examples=[84_211])]
    body_start: Annotated[str, Field(description="its first 4 KiB as text", examples=['{"batchId":"019b4fe1-2e40-…'])]


class DeadLetterPage(Page[DeadLetterAnswer]):
    """A page of dead letters, ordered by the time at which they were first seen, the earliest first."""
