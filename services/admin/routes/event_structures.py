"""Routes of event structures."""

from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from services.admin.commands import AdminCommands
from services.admin.models.event_structures import (
    NewStructure,
    NewVersion,
    StructureAnswer,
    StructureFilter,
    StructurePage,
    VersionAnswer,
    VersionList,
)
from services.admin.routes.payloads import parse_path_id, read_json_body, render, render_page
from services.admin.store import event_structures, partners
from tracking.domain.errors import Malformed, NotFound
from tracking.domain.event_structure import EventStructure
from tracking.http.json_api import read_query, render_json


class EventStructureRoutes:
    """Handlers of `/api/eventstructures` and `/api/partners/{id}/eventstructures`."""

    def __init__(self, administration: AdminCommands) -> None:
        self._administration = administration

    async def define(self, request: Request) -> Response:
        """Define the global structure of an event name."""
        return await self._define(request, None)

    async def define_for_partner(self, request: Request) -> Response:
        """Define a partner's own structure of an event name; it wins over the global one."""
        return await self._define(request, parse_path_id(request))

    async def list_global(self, request: Request) -> Response:
        """List the global structures."""
        return await self._list(request, None)

    async def list_of_partner(self, request: Request) -> Response:
        """List a partner's own structures."""
        return await self._list(request, parse_path_id(request))

    async def get(self, request: Request) -> Response:
        """Show a structure with its versions."""
        return _show(await self._load(request))

    async def list_versions(self, request: Request) -> Response:
        """List the versions of a structure."""
        structure = await self._load(request)
        return render(VersionList, {"items": structure.versions, "total_count": len(structure.versions)})

    async def get_version(self, request: Request) -> Response:
        """Show one version."""
        return render_json(_version((await self._load(request)).get_version(_number(request))))

    async def add_version(self, request: Request) -> Response:
        """Add the next version, published at once unless `publish` is false."""
        id_ = parse_path_id(request)
        wanted = await read_json_body(request, NewVersion)
        version = await self._administration.add_version(id_, _schema(wanted.schema_), publish=wanted.publish)
        location = f"/api/eventstructures/{id_}/versions/{version.version}"
        return render_json(_version(version), 201, {"Location": location})

    async def publish(self, request: Request) -> Response:
        """Publish a draft: events are held against the highest published version."""
        version = await self._administration.publish_version(parse_path_id(request), _number(request))
        return render_json(_version(version))

    async def deprecate(self, request: Request) -> Response:
        """Deprecate a published version: only events that name it are held against it."""
        version = await self._administration.deprecate_version(parse_path_id(request), _number(request))
        return render_json(_version(version))

    async def _define(self, request: Request, partner_id: UUID | None) -> Response:
        wanted = await read_json_body(request, NewStructure)
        structure = await self._administration.define_structure(
            partner_id, wanted.event_name, wanted.description, _schema(wanted.schema_), publish=wanted.publish
        )
        answer = _show(structure, 201)
        answer.headers["Location"] = f"/api/eventstructures/{structure.id}"
        return answer

    async def _list(self, request: Request, partner_id: UUID | None) -> Response:
        wanted = read_query(request, StructureFilter)
        async with self._administration.read_connection() as connection:
            if partner_id is not None:
                await partners.find_partner(connection, partner_id)
            found = await event_structures.list_structures(
                connection, partner_id, wanted.event_name, wanted.page_size, wanted.offset
            )
        return render_page(StructurePage, found, wanted)

    async def _load(self, request: Request) -> EventStructure:
        id_ = parse_path_id(request)
        async with self._administration.read_connection() as connection:
            return await event_structures.find_structure(connection, id_)


def _schema(given: Any) -> Any:
    """The schema itself where it came as a JSON string."""
    if not isinstance(given, str):
        return given
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError as error:
        fault = {"field": "schema", "message": f"the string is not JSON: {error}"}
        raise Malformed("invalid_schema", f"schema: {fault['message']}.", [fault]) from error


def _number(request: Request) -> int:
    text = request.path_params["version"]
    if not text.isdecimal() or len(text) > 9:
        raise NotFound("version_not_found", f"{text!r} is not the number of a version.")
    return int(text)


def _version(version: Any) -> dict[str, Any]:
    return VersionAnswer.model_validate(version).model_dump(by_alias=True, mode="json")


def _show(structure: EventStructure, status: int = 200) -> Response:
    current = structure.current
    answer = {
        "id": structure.id,
        "partner_id": structure.partner_id,
        "event_name": structure.event_name,
        "description": structure.description,
        "current_version": current.version if current else None,
        "versions": structure.versions,
        "created_at": structure.created_at,
        "updated_at": structure.updated_at,
    }
    return render(StructureAnswer, answer, status)
