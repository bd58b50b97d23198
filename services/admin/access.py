"""Who may administer: a bearer token of scope `admin`, looked up by its SHA-256 in the write database."""

import asyncio
import time
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from services.admin import store_tokens
from tracking.domain.errors import Forbidden, Unauthenticated, Unavailable
from tracking.infra import postgres
from tracking.infra.postgres import Pool

_OPEN = ("/health/", "/metrics", "/openapi/", "/scalar/")
# A revoked token may live for as long as this in each process.
_TRUSTED_S = 0.5
_MOST_ENTRIES = 1_000


class AdminOnly:
    """ASGI middleware: nothing but health, metrics and documentation is open without an admin token."""

    def __init__(self, app: ASGIApp, pool: Pool) -> None:
        self._app = app
        self._pool = pool
        self._known: dict[bytes, tuple[dict[str, Any] | None, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Unauthenticated, Forbidden or Unavailable into the edge."""
        if scope["type"] == "http" and not scope["path"].startswith(_OPEN):
            await self._check(next((value for name, value in scope["headers"] if name == b"authorization"), b""))
        await self._app(scope, receive, send)

    async def _check(self, header: bytes) -> None:
        scheme, _, secret = header.partition(b" ")
        if scheme.lower() != b"bearer" or not secret.strip():
            raise Unauthenticated("missing_token", "No token: send Authorization: Bearer <token>.")
        token = await self._find(sha256(secret.strip()).digest())
        if token is None:
            raise Unauthenticated("unknown_token", "This token is not known.")
        if token["revoked_at"] is not None:
            raise Unauthenticated("revoked_token", "This token was revoked.")
        if token["expires_at"] is not None and token["expires_at"] <= datetime.now(UTC):
            raise Unauthenticated("expired_token", "This token has expired.")
        if token["scope"] != "admin":
            raise Forbidden("not_an_admin_token", "This token may query, not administer.")

    async def _find(self, digest: bytes) -> dict[str, Any] | None:
        known = self._known.get(digest)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        try:
            async with asyncio.timeout(5), self._pool.acquire() as connection:
                token = await store_tokens.find_token(connection, digest)
        except postgres.TRANSIENT as error:
            raise Unavailable("database_unavailable", "The token cannot be checked now; try again.", 2) from error
        if len(self._known) >= _MOST_ENTRIES:
            self._known.clear()
        self._known[digest] = (token, time.monotonic() + _TRUSTED_S)
        return token
