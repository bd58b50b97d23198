"""Models for pages of lists, and the types of fields that several models share."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from tracking.http.json_api import JsonModel

EXAMPLE_PARTNER_ID, EXAMPLE_SYSTEM_ID = "123e4567-e89b-12d3-a456-426614174000", "223e4567-e89b-12d3-a456-426614174001"
EXAMPLE_API_KEY = "sk_JpR8xF2hNkT3vQwL9mYcD5sZ1aBeFg4H"
EXAMPLE_TIMESTAMP = "2025-12-24T10:30:00Z"


def require_whole_number(value: Any) -> Any:
    # pydantic would accept true as 1
    if type(value) is not int:
        raise ValueError("must be a whole number")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200, examples=["Acme Website"])]
Description = Annotated[str, Field(max_length=1000, examples=["Main corporate website"])]
# PostgreSQL cannot store a text that contains a NUL.
FilterText = Annotated[str, Field(max_length=255, pattern=r"^[^\x00]*$")]


class PageParameters(JsonModel):
    """The parameters that select a page of a list."""

    page_number: Annotated[int, Field(ge=1, le=1_000_000, examples=[1])] = 1
    page_size: Annotated[int, Field(ge=1, le=1000, examples=[100])] = 100

    @property
    def offset(self) -> int:
        """The number of rows before the page."""
        return (self.page_number - 1) * self.page_size


Item = TypeVar("Item", bound=JsonModel)


class Page(JsonModel, Generic[Item]):
    """A page of a list."""

    items: list[Item]
    total_count: int
    page_number: int
    page_size: int
