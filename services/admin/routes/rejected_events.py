"""Routes of rejected events: events of known API keys that were not stored, and the reasons."""

from starlette.requests import Request
from starlette.responses import Response

from services.admin.commands import AdminCommands
from services.admin.models.rejected_events import RejectedEventAnswer, RejectedEventFilter, RejectedEventPage
from services.admin.routes.payloads import parse_path_id, render, render_page
from tracking.http.json_api import read_query
from tracking.tables import rejected_events


class RejectedEventRoutes:
    """Handlers of `/api/refused`."""

    def __init__(self, commands: AdminCommands) -> None:
        self._commands = commands

    async def list(self, request: Request) -> Response:
        """List rejected events, the newest first."""
        wanted = read_query(request, RejectedEventFilter)
        async with self._commands.read_connection() as connection:
            found = await rejected_events.list_rejected_events(
                connection, wanted.partner_system_id, wanted.reason, wanted.page_size, wanted.offset
            )
        return render_page(RejectedEventPage, found, wanted)

    async def get(self, request: Request) -> Response:
        """Show a rejected event with everything that was kept of it."""
        id_ = parse_path_id(request)
        async with self._commands.read_connection() as connection:
            return render(RejectedEventAnswer, await rejected_events.find_rejected_event(connection, id_))
