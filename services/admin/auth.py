"""Authentication of the administration: a bearer token of scope `admin`.

The token is looked up by its SHA-256 in the write database for each request. There is no cache, because such requests
are rare and a revoked token must be rejected at once.
"""

from datetime import UTC, datetime
from hashlib import sha256

from starlette.types import ASGIApp, Receive, Scope, Send

from services.admin.commands import AdminCommands
from services.admin.store import access_tokens
from tracking.domain import access_token
from tracking.domain.errors import Forbidden, Unauthenticated

_OPEN = ("/health/", "/metrics", "/openapi/", "/scalar/")


class AdminAuthMiddleware:
    """ASGI middleware that asks for an admin token on every path except health, metrics and documentation."""

    def __init__(self, app: ASGIApp, commands: AdminCommands) -> None:
        self._app = app
        self._commands = commands

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or raise Unauthenticated, Forbidden or Unavailable for the edge middleware."""
        if scope["type"] == "http" and not scope["path"].startswith(_OPEN):
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            await self._check(given[0] if len(given) == 1 else b"")
        await self._app(scope, receive, send)

    async def _check(self, header: bytes) -> None:
        scheme, _, secret = header.partition(b" ")
        if scheme.lower() != b"bearer" or not secret.strip():
            raise Unauthenticated("missing_token", "No token: send Authorization: Bearer <token>.")
        async with self._commands.read_connection() as connection:
            token = await access_tokens.find_token_by_hash(connection, sha256(secret.strip()).digest())
        now = datetime.now(UTC)
        if token is None:
            raise Unauthenticated("unknown_token", "This token is not known.")
        if token.revoked_at is not None:
            raise Unauthenticated("revoked_token", "This token was revoked.")
        if not token.is_usable(now):
            raise Unauthenticated("expired_token", "This token has expired.")
        if token.scope is not access_token.Scope.ADMIN:
            raise Forbidden("not_an_admin_token", "This token may query, not administer.")
