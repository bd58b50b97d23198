"""Routes of access tokens."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from services.admin.commands import AdminCommands
from services.admin.models.access_tokens import IssuedToken, NewToken, TokenAnswer, TokenPage
from services.admin.models.pages import PageParameters
from services.admin.routes.payloads import parse_path_id, read_json_body, render, render_created, render_page
from services.admin.store import access_tokens
from tracking.domain.access_token import AccessToken
from tracking.http.json_api import read_query


class AccessTokenRoutes:
    """Handlers of `/api/tokens`."""

    def __init__(self, commands: AdminCommands) -> None:
        self._commands = commands

    async def issue(self, request: Request) -> Response:
        """Create an access token. Its secret is shown only in this response."""
        wanted = await read_json_body(request, NewToken)
        token, secret = await self._commands.issue_token(
            wanted.name, wanted.scope, wanted.partner_id, wanted.expires_at
        )
        issued = IssuedToken(
            id=token.id,
            name=token.name,
            token=secret,
            scope=token.scope,
            partner_id=token.partner_id,
            created_at=token.created_at,
            expires_at=token.expires_at,
        )
        return render_created(IssuedToken, issued, f"/api/tokens/{token.id}")

    async def list(self, request: Request) -> Response:
        """List access tokens, without their secrets."""
        wanted = read_query(request, PageParameters)
        async with self._commands.read_connection() as connection:
            found, total = await access_tokens.list_tokens(connection, wanted.page_size, wanted.offset)
        return render_page(TokenPage, ([_to_model(token) for token in found], total), wanted)

    async def get(self, request: Request) -> Response:
        """Show an access token, without its secret."""
        id_ = parse_path_id(request)
        async with self._commands.read_connection() as connection:
            return render(TokenAnswer, _to_model(await access_tokens.find_token(connection, id_)))

    async def revoke(self, request: Request) -> Response:
        """Revoke an access token."""
        await self._commands.revoke_token(parse_path_id(request))
        return Response(status_code=204)


def _to_model(token: AccessToken) -> TokenAnswer:
    return TokenAnswer(
        id=token.id,
        name=token.name,
        prefix=token.fingerprint.prefix,
        last_four=token.fingerprint.last_four,
        scope=token.scope,
        partner_id=token.partner_id,
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        is_usable=token.is_usable(datetime.now(UTC)),
    )
