"""Bodies and responses of the routes of access tokens."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from services.admin.models.pages import EXAMPLE_PARTNER_ID, Page
from tracking.domain.access_token import Scope
from tracking.http.json_api import JsonModel


class NewToken(JsonModel):
    """An access token to create, for admin or query."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["dashboard"])]
    scope: Annotated[Scope, Field(examples=["read"])]
    partner_id: Annotated[
        UUID | None, Field(description="read: only this partner's", examples=[EXAMPLE_PARTNER_ID])
    ] = None
    expires_at: datetime | None = None


class TokenAnswer(JsonModel):
    """An access token without its secret."""

    id: UUID
    name: str
    prefix: Annotated[str, Field(examples=["tk_"])]
    last_four: str
    scope: Scope
    partner_id: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    is_usable: bool


class IssuedToken(JsonModel):
    """An access token that was just created. Its secret is shown only in this response."""

    id: UUID
    name: str
    token: Annotated[str, Field(examples=["tk_JpR8xF2hNkT3vQwL9mYcD5sZ1aBeFg4H"])]
    scope: Scope
    partner_id: UUID | None
    created_at: datetime
    expires_at: datetime | None


class TokenPage(Page[TokenAnswer]):
    """A page of access tokens."""
