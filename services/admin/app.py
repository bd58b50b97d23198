"""The administration's HTTP edge: every route, what it takes and what it answers."""

from collections.abc import Awaitable, Callable, Mapping

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from services.admin.auth import AdminAuthMiddleware
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

SERVICE = "admin"
Handler = Callable[[Request], Awaitable[Response]]
_ERROR_RESPONSES: Mapping[int, type[BaseModel] | None] = dict.fromkeys((401, 403, 404, 503), ErrorBody)
_CHANGES: Mapping[int, type[BaseModel] | None] = {**_ERROR_RESPONSES, 409: ErrorBody, 413: ErrorBody}


class _RouteTable:
    """Collects routes together with their documentation."""

    def __init__(self, docs: OpenApiDocument) -> None:
        self._docs = docs
        self.routes: list[Route] = []

    def get(
        self,
        path: str,
        operation_id: str,
        handler: Handler,
        answer: type[BaseModel],
        query: type[BaseModel] | None = None,
    ) -> None:
        """A route that reads."""
        self._docs.describe(
            answers={200: answer, **_ERROR_RESPONSES}, tag=_tag(path), query=query, operation_id=operation_id
        )(handler)
        self.routes.append(Route(path, handler, methods=["GET"]))

    def change(
        self,
        methods: list[str],
        path: str,
        operation_id: str,
        handler: Handler,
        answer: type[BaseModel] | None,
        *,
        body: type[BaseModel] | None = None,
        status: int = 200,
    ) -> None:
        """A route that changes something."""
        self._docs.describe(answers={status: answer, **_CHANGES}, tag=_tag(path), body=body, operation_id=operation_id)(
            handler
        )
        self.routes.append(Route(path, handler, methods=methods))


def _tag(path: str) -> str:
    return "keys" if "apikeys" in path else path.split("/")[-1 if path.endswith("eventstructures") else 2]


def _partners(table: _RouteTable, routes: PartnerRoutes) -> None:
    path, answer = "/api/partners", PartnerAnswer
    table.change(
        ["POST"],
        path,
        "partner_register_partner",
        routes.register_partner,
        RegisteredPartner,
        body=NewPartner,
        status=201,
    )
    table.get(path, "partner_list_partners", routes.list_partners, PartnerPage, PartnerFilter)
    table.get(f"{path}/{{id}}", "partner_get_partner", routes.get_partner, answer)
    table.change(
        ["PUT", "PATCH"],
        f"{path}/{{id}}",
        "partner_update_partner",
        routes.update_partner,
        answer,
        body=PartnerChange,
    )
    table.change(["POST"], f"{path}/{{id}}/deactivate", "partner_deactivate_partner", routes.deactivate_partner, answer)
    table.change(["POST"], f"{path}/{{id}}/activate", "partner_activate_partner", routes.activate_partner, answer)


def _systems(table: _RouteTable, routes: PartnerSystemRoutes) -> None:
    path, answer = "/api/partnersystems", SystemAnswer
    table.change(
        ["POST"],
        path,
        "partner_register_system",
        routes.register_system,
        RegisteredSystem,
        body=NewSystem,
        status=201,
    )
    table.get(path, "partner_list_systems", routes.list_systems, SystemPage, SystemFilter)
    table.get(f"{path}/{{id}}", "partner_get_system", routes.get_system, answer)
    table.change(
        ["PUT", "PATCH"],
        f"{path}/{{id}}",
        "partner_update_system",
        routes.update_system,
        answer,
        body=SystemChange,
    )
    table.change(["POST"], f"{path}/{{id}}/deactivate", "partner_deactivate_system", routes.deactivate_system, answer)
    table.change(["POST"], f"{path}/{{id}}/activate", "partner_activate_system", routes.activate_system, answer)


def _keys(table: _RouteTable, routes: ApiKeyRoutes) -> None:
    keys = "/api/partnersystems/{id}/apikeys"
    table.change(["POST"], keys, "key_issue_key", routes.issue_key, IssuedKey, body=NewKey, status=201)
    table.get(keys, "key_list_keys", routes.list_keys, KeyList)
    rotate = f"{keys}/{{key_id}}/rotate"
    table.get(f"{keys}/{{key_id}}", "key_get_key", routes.get_key, KeyAnswer)
    table.change(["POST"], rotate, "key_rotate_key", routes.rotate_key, IssuedKey, body=Rotation, status=201)
    table.change(["POST"], f"{keys}/{{key_id}}/revoke", "key_revoke_key", routes.revoke_key, None, status=204)
    table.routes.append(Route(f"{keys}/{{key_id}}", routes.revoke_key, methods=["DELETE"]))


def _structures(table: _RouteTable, routes: EventStructureRoutes) -> None:
    path, new, answer = "/api/eventstructures", NewStructure, StructureAnswer
    table.change(["POST"], path, "structure_define", routes.define, answer, body=new, status=201)
    table.get(
        path,
        "structure_list_global",
        routes.list_global,
        StructurePage,
        StructureFilter,
    )
    own = "/api/partners/{id}/eventstructures"
    table.change(["POST"], own, "structure_define_for_partner", routes.define_for_partner, answer, body=new, status=201)
    table.get(
        own,
        "structure_list_of_partner",
        routes.list_of_partner,
        StructurePage,
        StructureFilter,
    )
    table.get(f"{path}/{{id}}", "structure_get", routes.get, answer)
    versions, version = f"{path}/{{id}}/versions", VersionAnswer
    table.change(
        ["POST"],
        versions,
        "structure_add_version",
        routes.add_version,
        version,
        body=NewVersion,
        status=201,
    )
    table.get(versions, "structure_list_versions", routes.list_versions, VersionList)
    table.get(f"{versions}/{{version}}", "structure_get_version", routes.get_version, version)
    table.change(["POST"], f"{versions}/{{version}}/publish", "structure_publish", routes.publish, version)
    table.change(["POST"], f"{versions}/{{version}}/deprecate", "structure_deprecate", routes.deprecate, version)


def _tokens(table: _RouteTable, routes: AccessTokenRoutes) -> None:
    path = "/api/tokens"
    table.change(["POST"], path, "token_issue", routes.issue, IssuedToken, body=NewToken, status=201)
    table.get(path, "token_list", routes.list, TokenPage, PageParameters)
    table.get(f"{path}/{{id}}", "token_get", routes.get, TokenAnswer)
    table.change(["POST"], f"{path}/{{id}}/revoke", "token_revoke", routes.revoke, None, status=204)
    table.routes.append(Route(f"{path}/{{id}}", routes.revoke, methods=["DELETE"]))


def _dead_letters(table: _RouteTable, routes: DeadLetterRoutes) -> None:
    path, answer = "/api/deadletters", DeadLetterAnswer
    table.get(path, "deadletter_list", routes.list, DeadLetterPage, DeadLetterFilter)
    table.get(f"{path}/{{id}}", "deadletter_get", routes.get, WholeDeadLetterAnswer)
    table.change(["POST"], f"{path}/{{id}}/retry", "deadletter_retry", routes.retry, answer)
    table.change(["POST"], f"{path}/{{id}}/discard", "deadletter_discard", routes.discard, answer)


def _rejected_events(table: _RouteTable, routes: RejectedEventRoutes) -> None:
    path = "/api/refused"
    table.get(path, "refused_list", routes.list, RejectedEventPage, RejectedEventFilter)
    table.get(f"{path}/{{id}}", "refused_get", routes.get, RejectedEventAnswer)


def create_app(administration: AdminCommands, health: Health) -> ASGIApp:
    """The application with its health, metrics and documentation."""
    docs = OpenApiDocument(
        title="Volcanion Tracking administration",
        description="Partners, their systems and keys, event structures, access tokens; dead letters, refused events.",
        version="1",
        credential="bearer",
    )
    table = _RouteTable(docs)
    _partners(table, PartnerRoutes(administration))
    _systems(table, PartnerSystemRoutes(administration))
    _keys(table, ApiKeyRoutes(administration))
    _structures(table, EventStructureRoutes(administration))
    _tokens(table, AccessTokenRoutes(administration))
    _dead_letters(table, DeadLetterRoutes(administration))
    _rejected_events(table, RejectedEventRoutes(administration))
    documented = Starlette(routes=table.routes)
    app = Starlette(routes=[*table.routes, *health.make_routes(), *docs.make_routes(documented)])
    app.router.redirect_slashes = False
    # the router alone: Starlette's own error middleware would answer before the edge, as text
    return EdgeMiddleware(AdminAuthMiddleware(app.router, administration), SERVICE)
