"""Routes of dead letters: list the messages that a consumer could not apply, and retry or discard them."""

from starlette.requests import Request
from starlette.responses import Response

from services.admin.commands import AdminCommands
from services.admin.models.dead_letters import DeadLetterAnswer, DeadLetterFilter, DeadLetterPage, WholeDeadLetterAnswer
from services.admin.routes.payloads import parse_path_id, render, render_page
from tracking.http.json_api import read_query
from tracking.tables.dead_letters import queries


class DeadLetterRoutes:
    """Handlers of `/api/deadletters`."""

    def __init__(self, commands: AdminCommands) -> None:
        self._commands = commands

    async def list(self, request: Request) -> Response:
        """List dead letters, the one that was first seen earliest first."""
        wanted = read_query(request, DeadLetterFilter)
        async with self._commands.read_connection() as connection:
            found = await queries.list_dead_letters(
                connection, wanted.consumer, wanted.state, wanted.page_size, wanted.offset
            )
        return render_page(DeadLetterPage, found, wanted)

    async def get(self, request: Request) -> Response:
        """Show a dead letter with the ids of its events and the beginning of its message."""
        id_ = parse_path_id(request)
        async with self._commands.read_connection() as connection:
            return render(WholeDeadLetterAnswer, await queries.find_dead_letter(connection, id_))

    async def retry(self, request: Request) -> Response:
        """Send a dead letter to its consumer again.

        Events that the consumer has applied already are not applied twice.
        """
        return render(DeadLetterAnswer, await self._commands.retry_dead_letter(parse_path_id(request)))

    async def discard(self, request: Request) -> Response:
        """Discard a dead letter. Its events stay stored in the write database, but its consumer never applies them."""
        return render(DeadLetterAnswer, await self._commands.discard_dead_letter(parse_path_id(request)))
