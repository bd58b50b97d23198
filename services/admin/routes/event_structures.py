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

    def __init__(self, commands: AdminCommands) -> None:
        self._commands = commands

    async def define(self, request: Request) -> Response:
        """Define the global structure of an event name."""
        return await self._define(request, None)

    async def define_for_partner(self, request: Request) -> Response:
        """Define a partner's own structure of an event name. It takes precedence over the global one."""
        return await self._define(request, parse_path_id(request))

    async def list_global(self, request: Request) -> Response:
        """List the global structures."""
        return await self._list(request, None)

    async def list_of_partner(self, request: Request) -> Response:
        """List a partner's own structures."""
        return await self._list(request, parse_path_id(request))

    async def get(self, request: Request) -> Response:
        """Show a structure with its versions."""
        return _render_structure(await self._load(request))

    async def list_versions(self, request: Request) -> Response:
        """List the versions of a structure."""
        structure = await self._load(request)
        return render(VersionList, {"items": structure.versions, "total_count": len(structure.versions)})

    async def get_version(self, request: Request) -> Response:
        """Show one version of a structure."""
        return render_json(_to_version_json((await self._load(request)).get_version(_parse_version_number(request))))

    async def add_version(self, request: Request) -> Response:
        """Add the next version of a structure. It is published at once unless `publish` is false."""
        id_ = parse_path_id(request)
        wanted = await read_json_body(request, NewVersion)
        version = await self._commands.add_version(id_, _parse_schema(wanted.schema_), publish=wanted.publish)
        location = f"/api/eventstructures/{id_}/versions/{version.version}"
        return render_json(_to_version_json(version), 201, {"Location": location})

    async def publish(self, request: Request) -> Response:
        """Publish a draft. Events are validated against the highest published version."""
        version = await self._commands.publish_version(parse_path_id(request), _parse_version_number(request))
        return render_json(_to_version_json(version))

    async def deprecate(self, request: Request) -> Response:
        """Deprecate a published version. From then on only events that name it are validated against it."""
        version = await self._commands.deprecate_version(parse_path_id(request), _parse_version_number(request))
        return render_json(_to_version_json(version))

    async def _define(self, request: Request, partner_id: UUID | None) -> Response:
        wanted = await read_json_body(request, NewStructure)
        structure = await self._commands.define_structure(
            partner_id, wanted.event_name, wanted.description, _parse_schema(wanted.schema_), publish=wanted.publish
        )
        response = _render_structure(structure, 201)
        response.headers["Location"] = f"/api/eventstructures/{structure.id}"
        return response

    async def _list(self, request: Request, partner_id: UUID | None) -> Response:
        wanted = read_query(request, StructureFilter)
        async with self._commands.read_connection() as connection:
            if partner_id is not None:
                await partners.find_partner(connection, partner_id)
            found = await event_structures.list_structures(
                connection, partner_id, wanted.event_name, wanted.page_size, wanted.offset
            )
        return render_page(StructurePage, found, wanted)

    async def _load(self, request: Request) -> EventStructure:
        id_ = parse_path_id(request)
        async with self._commands.read_connection() as connection:
            return await event_structures.find_structure(connection, id_)


def _parse_schema(given: Any) -> Any:
    """Return the schema, decoded if it was sent as a JSON string. Raises Malformed."""
    if not isinstance(given, str):
        return given
    try:
        return orjson.loads(given)
    except orjson.JSONDecodeError as error:
        fault = {"field": "schema", "message": f"the string is not JSON: {error}"}
        raise Malformed("invalid_schema", f"schema: {fault['message']}.", [fault]) from error


def _parse_version_number(request: Request) -> int:
    text = request.path_params["version"]
    if not text.isdecimal() or len(text) > 9:
        raise NotFound("version_not_found", f"{text!r} is not the number of a version.")
    return int(text)


def _to_version_json(version: Any) -> dict[str, Any]:
    return VersionAnswer.model_validate(version).model_dump(by_alias=True, mode="json")


def _render_structure(structure: EventStructure, status: int = 200) -> Response:
    current = structure.current
    values = {
        "id": structure.id,
        "partner_id": structure.partner_id,
        "event_name": structure.event_name,
        "description": structure.description,
        "current_version": current.version if current else None,
        "versions": structure.versions,
        "created_at": structure.created_at,
        "updated_at": structure.updated_at,
    }
    return render(StructureAnswer, values, status)
