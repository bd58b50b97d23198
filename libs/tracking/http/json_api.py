"""JSON in and out: models in camelCase, bodies and query parameters read into them."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request
from starlette.responses import Response

from tracking.domain.errors import Malformed, TooLarge

Model = TypeVar("Model", bound=BaseModel)


class JsonModel(BaseModel):
    """Base of bodies and parameters: camelCase outside, snake_case inside, nothing unknown let through."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", from_attributes=True)


class FieldFault(JsonModel):
    """One fault of the input."""

    field: str
    message: str


class ValidationFault(JsonModel):
    """One way in which an event breaks its schema; the event is stored all the same."""

    code: str
    path: Annotated[str, Field(description="JSON pointer into eventProperties.")]
    schema_path: str
    message: str


class ErrorBody(JsonModel):
    """The one shape of every error."""

    code: str
    message: str
    correlation_id: str
    details: list[FieldFault] | None = None


def render_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Encode `content` as JSON, a model by its camelCase names. UUIDs become strings, times strings that end in Z."""
    if isinstance(content, BaseModel):
        content = content.model_dump(by_alias=True, mode="json")
    body = orjson.dumps(content, default=_plain, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, headers, media_type="application/json")


def _plain(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)  # asyncpg's own, a subclass that orjson does not take
    raise TypeError(f"{type(value)} has no JSON")


async def read_body(request: Request, model: type[Model], limit_bytes: int, *, if_empty: bytes = b"") -> Model:
    """Read the JSON body as `model`. Raises Malformed with a detail for each field, TooLarge past `limit_bytes`."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge("body_too_large", f"The body is larger than {limit_bytes} bytes.")
        chunks.append(chunk)
    try:
        decoded = orjson.loads(b"".join(chunks) or if_empty)
    except orjson.JSONDecodeError as error:
        raise Malformed("malformed_json", f"The body is not JSON: {error}") from error
    return _validated(model, decoded, "invalid_body", "The body is not what this route takes.")


def read_query(request: Request, model: type[Model]) -> Model:
    """Read the query parameters as `model`. Raises Malformed, also for a parameter that is given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        faults = [{"field": name, "message": "given more than once"} for name in twice]
        raise Malformed("invalid_parameters", "A query parameter is given more than once.", faults)
    return _validated(
        model,
        dict(request.query_params),
        "invalid_parameters",
        "The query parameters are not what this route takes.",
    )


def _validated(model: type[Model], value: Any, code: str, message: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Malformed(code, message, _faults(error.errors(include_url=False, include_input=False))) from error


def _faults(errors: Sequence[Any]) -> list[dict[str, str]]:
    return [
        {
            "field": _place(error["loc"]) or "(body)",
            "message": error["msg"].removeprefix("Value error, "),
        }
        for error in errors
    ]


def _place(parts: Sequence[str | int]) -> str:
    """Format the place of a field error, such as `settings.privacyRules[0].path`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")
