"""Bodies and responses of the routes of API keys."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.admin.models.pages import EXAMPLE_API_KEY, EXAMPLE_SYSTEM_ID
from tracking.http.json_api import JsonModel


class NewKey(JsonModel):
    """A further API key to create for a system."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["backend, October"])] = "default"
    expires_at: Annotated[datetime | None, Field(examples=["2030-01-01T00:00:00Z"])] = None


class Rotation(JsonModel):
    """How long the old key still works after it was replaced."""

    grace_seconds: Annotated[int, Field(ge=0, le=90 * 86400, examples=[86400])] = 86400


class KeyAnswer(JsonModel):
    """An API key without its secret."""

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
    """An API key that was just created. Its secret is shown only in this response."""

    id: UUID
    partner_system_id: Annotated[UUID, Field(examples=[EXAMPLE_SYSTEM_ID])]
    name: str
    api_key: Annotated[str, Field(examples=[EXAMPLE_API_KEY])]
    created_at: datetime
    expires_at: datetime | None


class KeyList(JsonModel):
    """All API keys of a system."""

    items: list[KeyAnswer]
    total_count: int
