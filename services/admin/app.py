"""The ASGI application of admin: every route with the models of its body, its parameters and its responses."""

from collections.abc import Awaitable, Callable, Mapping

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.admin import SERVICE
from services.admin.auth import AdminAuthMiddleware
from services.admin.cache import PartnerSystemCache
from services.admin.commands import AdminCommands
from services.admin.models.access_tokens import IssuedToken, NewToken, TokenAnswer, TokenPage
from services.admin.models.api_keys import IssuedKey, KeyAnswer, KeyList, NewKey, Rotation
from services.admin.models.dead_letters import DeadLetterAnswer, DeadLetterFilter, DeadLetterPage, WholeDeadLetterAnswer
from services.admin.models.event_structures import (
    NewStructure,
    NewVersion,
    StructureAnswer,
    StructureFilter,
    StructurePage,
    VersionAnswer,
    VersionList,
)
from services.admin.models.pages import PageParameters
from services.admin.models.partner_systems import (
    NewSystem,
    RegisteredSystem,
    SystemAnswer,
    SystemChange,
    SystemFilter,
    SystemPage,
)
from services.admin.models.partners import (
    NewPartner,
    PartnerAnswer,
    PartnerChange,
    PartnerFilter,
    PartnerPage,
    RegisteredPartner,
)
from services.admin.models.rejected_events import RejectedEventAnswer, RejectedEventFilter, RejectedEventPage
from services.admin.routes.access_tokens import AccessTokenRoutes
from services.admin.routes.api_keys import ApiKeyRoutes
from services.admin.routes.dead_letters import DeadLetterRoutes
from services.admin.routes.event_structures import EventStructureRoutes
from services.admin.routes.partner_systems import PartnerSystemRoutes
from services.admin.routes.partners import PartnerRoutes
from services.admin.routes.rejected_events import RejectedEventRoutes
from tracking.http.edge import EdgeMiddleware
from tracking.http.health import Health
from tracking.http.json_api import ErrorBody
from tracking.http.openapi import OpenApiDocument

Handler = Callable[[Request], Awaitable[Response]]
_ERROR_RESPONSES: Mapping[int, type[BaseModel] | None] = dict.fromkeys((401, 403, 404, 503), ErrorBody)
_WRITE_ERROR_RESPONSES: Mapping[int, type[BaseModel] | None] = {**_ERROR_RESPONSES, 409: ErrorBody, 413: ErrorBody}


class _RouteTable:
    """Collects routes and describes each of them for the OpenAPI document."""

    def __init__(self, docs: OpenApiDocument) -> None:
        self._docs = docs
        self.routes: list[Route] = []

    def add_read(
        self,
        path: str,
        operation_id: str,
        handler: Handler,
        response: type[BaseModel],
        query: type[BaseModel] | None = None,
    ) -> None:
        """Add a GET route."""
        self._docs.describe(
            answers={200: response, **_ERROR_RESPONSES}, tag=_get_tag(path), query=query, operation_id=operation_id
        )(handler)
        self.routes.append(Route(path, handler, methods=["GET"]))

    def add_write(
        self,
        methods: list[str],
        path: str,
        operation_id: str,
        handler: Handler,
        response: type[BaseModel] | None,
        *,
        body: type[BaseModel] | None = None,
        status: int = 200,
    ) -> None:
        """Add a route whose command changes something. `methods` are all methods that lead to the handler."""
        self._docs.describe(
            answers={status: response, **_WRITE_ERROR_RESPONSES},
            tag=_get_tag(path),
            body=body,
            operation_id=operation_id,
        )(handler)
        self.routes.append(Route(path, handler, methods=methods))


def _get_tag(path: str) -> str:
    return "keys" if "apikeys" in path else path.split("/")[-1 if path.endswith("eventstructures") else 2]


def _add_partner_routes(table: _RouteTable, routes: PartnerRoutes) -> None:
    path, answer = "/api/partners", PartnerAnswer
    table.add_write(
        ["POST"],
        path,
        "partner_register_partner",
        routes.register_partner,
        RegisteredPartner,
        body=NewPartner,
        status=201,
    )
    table.add_read(path, "partner_list_partners", routes.list_partners, PartnerPage, PartnerFilter)
    table.add_read(f"{path}/{{id}}", "partner_get_partner", routes.get_partner, answer)
    table.add_write(
        ["PUT", "PATCH"],
        f"{path}/{{id}}",
        "partner_update_partner",
        routes.update_partner,
        answer,
        body=PartnerChange,
    )
    table.add_write(
        ["POST"], f"{path}/{{id}}/deactivate", "partner_deactivate_partner", routes.deactivate_partner, answer
    )
    table.add_write(["POST"], f"{path}/{{id}}/activate", "partner_activate_partner", routes.activate_partner, answer)


def _add_partner_system_routes(table: _RouteTable, routes: PartnerSystemRoutes) -> None:
    path, answer = "/api/partnersystems", SystemAnswer
    table.add_write(
        ["POST"],
        path,
        "partner_register_system",
        routes.register_system,
        RegisteredSystem,
        body=NewSystem,
        status=201,
    )
    table.add_read(path, "partner_list_systems", routes.list_systems, SystemPage, SystemFilter)
    table.add_read(f"{path}/{{id}}", "partner_get_system", routes.get_system, answer)
    table.add_write(
        ["PUT", "PATCH"],
        f"{path}/{{id}}",
        "partner_update_system",
        routes.update_system,
        answer,
        body=SystemChange,
    )
    table.add_write(
        ["POST"], f"{path}/{{id}}/deactivate", "partner_deactivate_system", routes.deactivate_system, answer
    )
    table.add_write(["POST"], f"{path}/{{id}}/activate", "partner_activate_system", routes.activate_system, answer)


def _add_api_key_routes(table: _RouteTable, routes: ApiKeyRoutes) -> None:
    keys = "/api/partnersystems/{id}/apikeys"
    table.add_write(["POST"], keys, "key_issue_key", routes.issue_key, IssuedKey, body=NewKey, status=201)
    table.add_read(keys, "key_list_keys", routes.list_keys, KeyList)
    rotate = f"{keys}/{{key_id}}/rotate"
    table.add_read(f"{keys}/{{key_id}}", "key_get_key", routes.get_key, KeyAnswer)
    table.add_write(["POST"], rotate, "key_rotate_key", routes.rotate_key, IssuedKey, body=Rotation, status=201)
    table.add_write(["POST"], f"{keys}/{{key_id}}/revoke", "key_revoke_key", routes.revoke_key, None, status=204)
    table.routes.append(Route(f"{keys}/{{key_id}}", routes.revoke_key, methods=["DELETE"]))


def _add_event_structure_routes(table: _RouteTable, routes: EventStructureRoutes) -> None:
    path, new, answer = "/api/eventstructures", NewStructure, StructureAnswer
    table.add_write(["POST"], path, "structure_define", routes.define, answer, body=new, status=201)
    table.add_read(
        path,
        "structure_list_global",
        routes.list_global,
        StructurePage,
        StructureFilter,
    )
    own = "/api/partners/{id}/eventstructures"
    table.add_write(
        ["POST"], own, "structure_define_for_partner", routes.define_for_partner, answer, body=new, status=201
    )
    table.add_read(
        own,
        "structure_list_of_partner",
        routes.list_of_partner,
        StructurePage,
        StructureFilter,
    )
    table.add_read(f"{path}/{{id}}", "structure_get", routes.get, answer)
    versions, version = f"{path}/{{id}}/versions", VersionAnswer
    table.add_write(
        ["POST"],
        versions,
        "structure_add_version",
        routes.add_version,
        version,
        body=NewVersion,
        status=201,
    )
    table.add_read(versions, "structure_list_versions", routes.list_versions, VersionList)
    table.add_read(f"{versions}/{{version}}", "structure_get_version", routes.get_version, version)
    table.add_write(["POST"], f"{versions}/{{version}}/publish", "structure_publish", routes.publish, version)
    table.add_write(["POST"], f"{versions}/{{version}}/deprecate", "structure_deprecate", routes.deprecate, version)


def _add_access_token_routes(table: _RouteTable, routes: AccessTokenRoutes) -> None:
    path = "/api/tokens"
    table.add_write(["POST"], path, "token_issue", routes.issue, IssuedToken, body=NewToken, status=201)
    table.add_read(path, "token_list", routes.list, TokenPage, PageParameters)
    table.add_read(f"{path}/{{id}}", "token_get", routes.get, TokenAnswer)
    table.add_write(["POST"], f"{path}/{{id}}/revoke", "token_revoke", routes.revoke, None, status=204)
    table.routes.append(Route(f"{path}/{{id}}", routes.revoke, methods=["DELETE"]))


def _add_dead_letter_routes(table: _RouteTable, routes: DeadLetterRoutes) -> None:
    path, answer = "/api/deadletters", DeadLetterAnswer
    table.add_read(path, "deadletter_list", routes.list, DeadLetterPage, DeadLetterFilter)
    table.add_read(f"{path}/{{id}}", "deadletter_get", routes.get, WholeDeadLetterAnswer)
    table.add_write(["POST"], f"{path}/{{id}}/retry", "deadletter_retry", routes.retry, answer)
    table.add_write(["POST"], f"{path}/{{id}}/discard", "deadletter_discard", routes.discard, answer)


def _add_rejected_event_routes(table: _RouteTable, routes: RejectedEventRoutes) -> None:
    path = "/api/refused"
    table.add_read(path, "refused_list", routes.list, RejectedEventPage, RejectedEventFilter)
    table.add_read(f"{path}/{{id}}", "refused_get", routes.get, RejectedEventAnswer)


def create_app(commands: AdminCommands, cache: PartnerSystemCache, health: Health) -> ASGIApp:
    """Build the application, with its routes for health, metrics and the OpenAPI document."""
    docs = OpenApiDocument(
        title="Volcanion Tracking administration",
        description="Partners, their systems and keys, event structures, access tokens; dead letters, refused events.",
        version="1",
        credential="bearer",
    )
    table = _RouteTable(docs)
    _add_partner_routes(table, PartnerRoutes(commands))
    _add_partner_system_routes(table, PartnerSystemRoutes(commands, cache))
    _add_api_key_routes(table, ApiKeyRoutes(commands))
    _add_event_structure_routes(table, EventStructureRoutes(commands))
    _add_access_token_routes(table, AccessTokenRoutes(commands))
    _add_dead_letter_routes(table, DeadLetterRoutes(commands))
    _add_rejected_event_routes(table, RejectedEventRoutes(commands))
    documented = Starlette(routes=table.routes)
    app = Starlette(routes=[*table.routes, *health.make_routes(), *docs.make_routes(documented)])
    app.router.redirect_slashes = False
    # Only the router is wrapped: Starlette's error middleware would answer with text before the edge sees the error.
    return EdgeMiddleware(AdminAuthMiddleware(app.router, commands), SERVICE)
