"""`/openapi/v1.json` and the Scalar page at `/scalar/v1`, made from the routes by spectree.

spectree only documents here (`skip_validation`): its own validation answers in another shape of error and looks at the
content type to the letter. The page comes with its script (package offapi), so it works without the internet.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel
from spectree import Response as Answers
from spectree import SecurityScheme, SpecTree
from spectree.page import PAGE_TEMPLATES
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tracking.infra.http import ErrorBody

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Documentation:
    """Collects what a service's routes take and answer."""

    def __init__(self, *, title: str, description: str, version: str, security: SecurityScheme | None) -> None:
        self._tree = SpecTree(
            "starlette",
            title=title,
            description=description,
            version=version,
            path="openapi",
            filename="v1.json",
            mode="strict",
            annotations=False,
            naming_strategy=lambda model: model.__name__,
            nested_naming_strategy=lambda _parent, child: child,
            security_schemes=[security] if security else [],
            security={security.name: []} if security else {},
            validation_error_status=400,
            validation_error_model=ErrorBody,
        )

    def route(
        self,
        *,
        answers: dict[int, type[BaseModel] | None],
        tag: str,
        body: type[BaseModel] | None = None,
        query: type[BaseModel] | None = None,
        operation_id: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Document a handler: its docstring's first line is the summary; 400 and the like are `ErrorBody`."""
        models = {f"HTTP_{status}": model for status, model in answers.items()}
        return self._tree.validate(
            json=body,
            query=query,
            resp=Answers(**models),
            tags=[tag],
            skip_validation=True,
            operation_id=operation_id,
        )

    def routes(self, documented: Starlette) -> list[Route]:
        """The two routes that show it; `documented` is the application whose routes are described."""
        self._tree.app = documented

        async def document(request: Request) -> Response:
            return JSONResponse(self._tree.spec)

        async def reference(request: Request) -> Response:
            # formatted for each look at it: the page is 5 MB and nobody reads it often
            return HTMLResponse(PAGE_TEMPLATES["scalar"].format(spec_url="/openapi/v1.json", spec_path="openapi"))

        return [Route("/openapi/v1.json", document), Route("/scalar/v1", reference)]
