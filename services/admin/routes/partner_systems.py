"""Routes of partner systems."""

from starlette.requests import Request
from starlette.responses import Response

from services.admin.cache import PartnerSystemCache
from services.admin.commands import AdminCommands
from services.admin.models.partner_systems import (
    NewSystem,
    RegisteredSystem,
    SystemAnswer,
    SystemChange,
    SystemFilter,
    SystemPage,
)
from services.admin.models.system_settings import SettingsAnswer
from services.admin.routes.payloads import parse_path_id, read_json_body, render, render_created, render_page
from services.admin.store import partner_systems
from tracking.domain.system_settings import DEFAULT_SETTINGS
from tracking.http.json_api import read_query


class PartnerSystemRoutes:
    """Handlers of `/api/partnersystems`."""

    def __init__(self, commands: AdminCommands, cache: PartnerSystemCache) -> None:
        self._commands = commands
        self._cache = cache

    async def register_system(self, request: Request) -> Response:
        """Register a partner system. The secret of its first key is shown only in this response."""
        wanted = await read_json_body(request, NewSystem)
        settings = wanted.settings.apply_to(DEFAULT_SETTINGS) if wanted.settings else DEFAULT_SETTINGS
        system, secret = await self._commands.register_system(
            wanted.partner_id, wanted.name, wanted.type, wanted.description, settings
        )
        registered = RegisteredSystem(
            id=system.id,
            partner_id=system.partner_id,
            name=system.name,
            type=system.type,
            description=system.description,
            api_key=secret,
            is_active=system.is_active,
            settings=SettingsAnswer.model_validate(settings) if wanted.settings else None,
        )
        return render_created(RegisteredSystem, registered, f"/api/partnersystems/{system.id}")

    async def list_systems(self, request: Request) -> Response:
        """List partner systems, oldest first."""
        wanted = read_query(request, SystemFilter)
        async with self._commands.read_connection() as connection:
            found = await partner_systems.list_systems(
                connection, wanted.partner_id, wanted.is_active, wanted.page_size, wanted.offset
            )
        return render_page(SystemPage, found, wanted)

    async def get_system(self, request: Request) -> Response:
        """Show a partner system."""
        return render(SystemAnswer, await self._cache.get_system(parse_path_id(request)))

    async def update_system(self, request: Request) -> Response:
        """Change a system's name, type, description or settings."""
        id_ = parse_path_id(request)
        wanted = await read_json_body(request, SystemChange)
        change_settings = wanted.settings.apply_to if wanted.settings else None
        system = await self._commands.update_system(id_, wanted.name, wanted.type, wanted.description, change_settings)
        return render(SystemAnswer, system)

    async def deactivate_system(self, request: Request) -> Response:
        """Deactivate a system. Requests with its keys are rejected within a second."""
        system = await self._commands.set_system_active(parse_path_id(request), is_active=False)
        return render(SystemAnswer, system)

    async def activate_system(self, request: Request) -> Response:
        """Activate a system again."""
        system = await self._commands.set_system_active(parse_path_id(request), is_active=True)
        return render(SystemAnswer, system)
