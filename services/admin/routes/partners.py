"""Routes of partners."""

from starlette.requests import Request
from starlette.responses import Response

from services.admin.commands import AdminCommands
from services.admin.models.partners import (
    NewPartner,
    PartnerAnswer,
    PartnerChange,
    PartnerFilter,
    PartnerPage,
    RegisteredPartner,
)
from services.admin.routes.payloads import parse_path_id, read_json_body, render, render_created, render_page
from services.admin.store import partners
from tracking.http.json_api import read_query


class PartnerRoutes:
    """Handlers of `/api/partners`."""

    def __init__(self, commands: AdminCommands) -> None:
        self._commands = commands

    async def register_partner(self, request: Request) -> Response:
        """Register a partner."""
        wanted = await read_json_body(request, NewPartner)
        partner = await self._commands.register_partner(wanted.name, wanted.email)
        return render_created(RegisteredPartner, partner, f"/api/partners/{partner.id}")

    async def list_partners(self, request: Request) -> Response:
        """List partners, oldest first."""
        wanted = read_query(request, PartnerFilter)
        async with self._commands.read_connection() as connection:
            found = await partners.list_partners(
                connection, wanted.is_active, wanted.email, wanted.page_size, wanted.offset
            )
        return render_page(PartnerPage, found, wanted)

    async def get_partner(self, request: Request) -> Response:
        """Show a partner."""
        id_ = parse_path_id(request)
        async with self._commands.read_connection() as connection:
            return render(PartnerAnswer, await partners.find_partner(connection, id_))

    async def update_partner(self, request: Request) -> Response:
        """Change a partner's name or address."""
        id_ = parse_path_id(request)
        wanted = await read_json_body(request, PartnerChange)
        partner = await self._commands.update_partner(id_, wanted.name, wanted.email)
        return render(PartnerAnswer, partner)

    async def deactivate_partner(self, request: Request) -> Response:
        """Deactivate a partner. Requests with the keys of all its systems are rejected within a second."""
        partner = await self._commands.set_partner_active(parse_path_id(request), is_active=False)
        return render(PartnerAnswer, partner)

    async def activate_partner(self, request: Request) -> Response:
        """Activate a partner again."""
        partner = await self._commands.set_partner_active(parse_path_id(request), is_active=True)
        return render(PartnerAnswer, partner)
