"""`/openapi/v1.json` and the Scalar page at `/scalar/v1`, made from the routes by spectree when first asked for.

spectree only documents here (`skip_validation`): its own validation answers in another shape of error and looks at the
content type to the letter. The page comes with its script (package offapi), so it works without the internet; because
of its size (40 MB in memory once imported) nothing of this is imported before somebody looks.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tracking.http import openapi_page
from tracking.http.json_api import ErrorBody

Handler = TypeVar("Handler", bound=Callable[..., Any])
Credential = Literal["api_key", "bearer"]


@dataclass(frozen=True, slots=True)
class _Operation:
    answers: Mapping[int, type[BaseModel] | None]
    tag: str
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    operation_id: str | None
    media_type: str | None


class OpenApiDocument:
    """Collects the parameters, bodies and responses of a service's routes."""

    def __init__(self, *, title: str, description: str, version: str, credential: Credential) -> None:
        self._title = title
        self._description = description
        self._version = version
        self._credential = credential
        self._operations: dict[Callable[..., Any], _Operation] = {}
        self._document: dict[str, Any] | None = None

    def describe(
        self,
        *,
        answers: Mapping[int, type[BaseModel] | None],
        tag: str,
        body: type[BaseModel] | None = None,
        query: type[BaseModel] | None = None,
        operation_id: str | None = None,
        media_type: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Document a handler and return it unchanged. The first line of its docstring is the summary.

        Status 400 is documented as `ErrorBody`. With a `media_type` every response has that type instead of JSON.
        """

        def note(handler: Handler) -> Handler:
            self._operations[handler] = _Operation(answers, tag, body, query, operation_id, media_type)
            return handler

        return note

    def make_routes(self, documented: Starlette) -> list[Route]:
        """Return the routes of the document and its page; `documented` is the application to describe."""

        async def document(request: Request) -> Response:
            if self._document is None:
                self._document = self._describe(documented)
            return JSONResponse(self._document)

        async def reference(request: Request) -> Response:
            # relative, so that it also works under a path of the edge
            return HTMLResponse(openapi_page.build_page("../openapi/v1.json"), headers=openapi_page.HEADERS)

        return [Route("/openapi/v1.json", document), Route("/scalar/v1", reference)]

    def _describe(self, documented: Starlette) -> dict[str, Any]:
        spectree = importlib.import_module("spectree")
        scheme = _security_scheme(self._credential)
        tree = spectree.SpecTree(
            "starlette",
            title=self._title,
            description=self._description,
            version=self._version,
            path="openapi",
            filename="v1.json",
            mode="strict",
            annotations=False,
            naming_strategy=lambda model: model.__name__,
            nested_naming_strategy=lambda _parent, child: child,
            security_schemes=[scheme],
            security={scheme.name: []},
            validation_error_status=400,
            validation_error_model=ErrorBody,
        )
        routes = []
        named: set[str | None] = set()
        for route in documented.routes:
            operation = self._operations.get(getattr(route, "endpoint", _undocumented))
            if isinstance(route, Route) and operation is not None:
                for method in sorted((route.methods or set()) - {"HEAD"}):
                    # an operation's id is its own: a second method of the same handler gets the method's name behind it
                    suffix = f"_{method.lower()}" if operation.operation_id in named else ""
                    named.add(operation.operation_id)
                    describe = tree.validate(
                        json=operation.body,
                        query=operation.query,
                        resp=spectree.Response(**{f"HTTP_{status}": m for status, m in operation.answers.items()}),
                        tags=[operation.tag],
                        skip_validation=True,
                        operation_id=operation.operation_id and operation.operation_id + suffix,
                    )
                    routes.append(Route(route.path, describe(route.endpoint), methods=[method]))
        tree.app = Starlette(routes=routes)
        document: dict[str, Any] = tree.spec
        for route in documented.routes:
            operation = self._operations.get(getattr(route, "endpoint", _undocumented))
            if isinstance(route, Route) and operation is not None and operation.media_type is not None:
                _retype(document["paths"][route.path], operation.media_type)
        return document


def _retype(operations: dict[str, Any], media_type: str) -> None:
    content = {media_type: {"schema": {"type": "string"}}}
    for operation in operations.values():
        for status, answer in operation["responses"].items():
            answer["content"] = {} if status == "304" else content


def _undocumented() -> None:
    """A placeholder for the endpoint of entries that are not routes."""


def _security_scheme(credential: Credential) -> Any:
    spectree = importlib.import_module("spectree")
    models = importlib.import_module("spectree.models")
    if credential == "bearer":
        data = models.SecuritySchemeData(type=models.SecureType.HTTP, scheme="bearer")
    else:
        data = models.SecuritySchemeData(
            type=models.SecureType.API_KEY, name="X-Api-Key", field_in=models.InType.HEADER
        )
    return spectree.SecurityScheme(name=credential, data=data)
