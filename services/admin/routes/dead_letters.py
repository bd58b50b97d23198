"""Routes of dead letters: list the messages that a consumer could not apply, and retry or discard them."""

from starlette.requests import Request
from starlette.responses import Response

from services.admin.commands import AdminCommands
from services.admin.models.dead_letters import DeadLetterAnswer, DeadLetterFilter, DeadLetterPage, WholeDeadLetterAnswer
from services.admin.routes.payloads import parse_path_id, render, render_page
from tracking.http.json_api import read_query
from tracking.tables.dead_letters import decisions


class DeadLetterRoutes:
    """Handlers of `/api/deadletters`."""

    def __init__(self, commands: AdminCommands) -> None:
        self._commands = commands

    async def list(self, request: Request) -> Response:
        """List dead letters, the first seen first."""
        wanted = read_query(request, DeadLetterFilter)
        async with self._commands.read_connection() as connection:
            found = await decisions.list_dead_letters(
                connection, wanted.consumer, wanted.state, wanted.page_size, wanted.offset
            )
        return render_page(DeadLetterPage, found, wanted)

    async def get(self, request: Request) -> Response:
        """Show a dead letter with its events' ids and the beginning of the message."""
        id_ = parse_path_id(request)
        async with self._commands.read_connection() as connection:
            return render(WholeDeadLetterAnswer, await decisions.find_dead_letter(connection, id_))

    async def retry(self, request: Request) -> Response:
        """Send it to its consumer again; what that consumer has applied stays applied once."""
        return render(DeadLetterAnswer, await self._commands.retry_dead_letter(parse_path_id(request)))

    async def discard(self, request: Request) -> Response:
        """Settle it without applying it: its events stay stored, and missing at that consumer."""
        return render(DeadLetterAnswer, await self._commands.discard_dead_letter(parse_path_id(request)))
