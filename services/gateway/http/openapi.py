"""The gateway's OpenAPI document.

The routes are handled in app.py; here only their parameters, bodies and responses are described.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route

from services.gateway.http.models import (
    BatchAnswer,
    BatchRequest,
    DryRun,
    IngestAnswer,
    IngestRequest,
    KeyQuery,
    PixelQuery,
    SdkAnswer,
    SdkBatch,
    SdkBatchAnswer,
    SdkMessage,
)
from services.gateway.http.paths import BATCH_PATH, INGEST_PATH
from services.gateway.http.sdk_settings import SOURCE_CONFIG_PATH
from tracking.domain.tracking_event import EVENT_TYPES
from tracking.http.json_api import ErrorBody
from tracking.http.openapi import OpenApiDocument

_ERRORS: dict[int, type[BaseModel] | None] = dict.fromkeys((400, 401, 403, 413, 422, 429, 503), ErrorBody)


Handler = Callable[..., Any]


class _Own(Protocol):
    @property
    def ingest(self) -> Handler: ...

    @property
    def batch(self) -> Handler: ...


class _Browser(Protocol):
    beacon_path: str
    pixel_path: str
    script_path: str

    @property
    def beacon(self) -> Handler: ...

    @property
    def pixel(self) -> Handler: ...

    @property
    def script(self) -> Handler: ...


class _Sdk(Protocol):
    prefix: str

    @property
    def message(self) -> Handler: ...

    @property
    def batch(self) -> Handler: ...


class _SdkSettings(Protocol):
    project_path: str

    @property
    def project(self) -> Handler: ...

    @property
    def source(self) -> Handler: ...


def build_openapi(own: _Own, sdk: _Sdk, browser: _Browser, settings: _SdkSettings) -> tuple[OpenApiDocument, Starlette]:
    """Build the document, and the routes that it describes."""
    docs = OpenApiDocument(
        title="Volcanion Tracking gateway",
        description=(
            "Receives events. 202, or 200 to an SDK, says that they are on disk; a repeat with the same eventId or "
            "messageId is harmless. The routes of SDKs have one-letter forms too: t, i, p, s, g, a and b. "
            "RudderStack's paths beacon/v1/batch, pixel/v1/{type} and merge are served as well."
        ),
        version="1",
        credential="api_key",
    )

    def route(
        path: str, handler: Handler, body: type[BaseModel], status: int, answer: type[BaseModel], tag: str, name: str
    ) -> Route:
        answers: dict[int, type[BaseModel] | None] = {status: answer, **_ERRORS}
        described = docs.describe(body=body, query=DryRun, answers=answers, tag=tag, operation_id=name)
        # Each operation has a function of its own, because one handler may serve several paths.
        return Route(path, described(_copy(handler)), methods=["POST"])

    def page(
        path: str, handler: Handler, query: type[BaseModel] | None, statuses: Sequence[int], name: str, media_type: str
    ) -> Route:
        answers: dict[int, type[BaseModel] | None] = dict.fromkeys(statuses)
        described = docs.describe(query=query, answers=answers, tag="pages", operation_id=name, media_type=media_type)
        return Route(path, described(_copy(handler)), methods=["GET"])

    answers: dict[int, type[BaseModel] | None] = {200: None, 400: ErrorBody}
    routes = [
        route(INGEST_PATH, own.ingest, IngestRequest, 202, IngestAnswer, "events", "ingest"),
        route(BATCH_PATH, own.batch, BatchRequest, 202, BatchAnswer, "events", "batch"),
        route(f"{sdk.prefix}/batch", sdk.batch, SdkBatch, 200, SdkBatchAnswer, "SDKs", "sdk_batch"),
        *(
            route(f"{sdk.prefix}/{kind}", sdk.message, SdkMessage, 200, SdkAnswer, "SDKs", f"sdk_{kind}")
            for kind in EVENT_TYPES
        ),
        route(browser.beacon_path, browser.beacon, SdkBatch, 200, SdkBatchAnswer, "pages", "beacon"),
        page(browser.pixel_path, browser.pixel, PixelQuery, (200, *_ERRORS), "pixel", "image/gif"),
        page(browser.script_path, browser.script, None, (200, 304), "script", "text/javascript"),
        *(
            Route(path, docs.describe(query=query, answers=answers, tag="SDKs", operation_id=name)(handler))
            for path, handler, query, name in (
                (settings.project_path, settings.project, None, "project_settings"),
                (SOURCE_CONFIG_PATH, settings.source, KeyQuery, "source_config"),
            )
        ),
    ]
    return docs, Starlette(routes=routes)


def _copy(handler: Handler) -> Handler:
    @wraps(handler)
    async def same(request: Any) -> Any:
        return await handler(request)

    return same
