"""Reading of request bodies and path ids, and rendering of responses, for all handlers of admin."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from services.admin.models.pages import PageParameters
from tracking.domain.errors import NotFound
from tracking.http.json_api import JsonModel, read_body, render_json

# A schema of 64 KiB as a JSON string with every quote escaped, and room for its description.
BODY_BYTES = 256 * 1024
Model = TypeVar("Model", bound=JsonModel)


async def read_json_body(request: Request, model: type[Model], *, is_optional: bool = False) -> Model:
    """Read the JSON body; if it is optional, an empty body counts as `{}`. Raises Malformed or TooLarge."""
    return await read_body(request, model, BODY_BYTES, if_empty=b"{}" if is_optional else b"")


def parse_path_id(request: Request, name: str = "id") -> UUID:
    """Read an id from the path. Raises NotFound if it is not a UUID."""
    try:
        return UUID(request.path_params[name])
    except ValueError as error:
        raise NotFound("not_found", f"{request.path_params[name]!r} is not an id.") from error


def render(model: type[JsonModel], thing: Any, status: int = 200) -> Response:
    """Build the response from an aggregate or a row, by the model's fields."""
    return render_json(model.model_validate(thing, from_attributes=True), status)


def render_created(model: type[JsonModel], thing: Any, location: str) -> Response:
    """Build a 201 response whose Location is `location`."""
    response = render(model, thing, 201)
    response.headers["Location"] = location
    return response


def render_page(model: type[JsonModel], found: tuple[Sequence[Any], int], wanted: PageParameters) -> Response:
    """Build the response for one page: `found` is the rows or models of the page and the number of all."""
    items, total = found
    return render(
        model,
        {"items": items, "total_count": total, "page_number": wanted.page_number, "page_size": wanted.page_size},
    )
