"""Routes of a partner system's API keys."""

from datetime import UTC, datetime, timedelta

from starlette.requests import Request
from starlette.responses import Response

from services.admin.commands import AdminCommands
from services.admin.models.api_keys import IssuedKey, KeyAnswer, KeyList, NewKey, Rotation
from services.admin.routes.payloads import parse_path_id, read_json_body, render, render_created
from services.admin.store import api_keys, partner_systems
from tracking.domain.api_key import ApiKey


class ApiKeyRoutes:
    """Handlers of `/api/partnersystems/{id}/apikeys`."""

    def __init__(self, commands: AdminCommands) -> None:
        self._commands = commands

    async def issue_key(self, request: Request) -> Response:
        """Create a further API key. Its secret is shown only in this response."""
        partner_system_id = parse_path_id(request)
        wanted = await read_json_body(request, NewKey, is_optional=True)
        return _render_issued(*await self._commands.issue_key(partner_system_id, wanted.name, wanted.expires_at))

    async def list_keys(self, request: Request) -> Response:
        """List the API keys of a system, without their secrets."""
        partner_system_id = parse_path_id(request)
        async with self._commands.read_connection() as connection:
            await partner_systems.find_system(connection, partner_system_id)
            keys = await api_keys.list_keys(connection, partner_system_id)
        return render(KeyList, {"items": [_to_model(key) for key in keys], "total_count": len(keys)})

    async def get_key(self, request: Request) -> Response:
        """Show an API key, without its secret."""
        partner_system_id, key_id = parse_path_id(request), parse_path_id(request, "key_id")
        async with self._commands.read_connection() as connection:
            return render(KeyAnswer, _to_model(await api_keys.find_key(connection, partner_system_id, key_id)))

    async def rotate_key(self, request: Request) -> Response:
        """Replace an API key. The old key works until its grace period ends."""
        partner_system_id, key_id = parse_path_id(request), parse_path_id(request, "key_id")
        wanted = await read_json_body(request, Rotation, is_optional=True)
        grace = timedelta(seconds=wanted.grace_seconds)
        return _render_issued(*await self._commands.rotate_key(partner_system_id, key_id, grace))

    async def revoke_key(self, request: Request) -> Response:
        """Revoke an API key. Requests with it are rejected within a second."""
        await self._commands.revoke_key(parse_path_id(request), parse_path_id(request, "key_id"))
        return Response(status_code=204)


def _to_model(key: ApiKey) -> KeyAnswer:
    return KeyAnswer(
        id=key.id,
        name=key.name,
        prefix=key.fingerprint.prefix,
        last_four=key.fingerprint.last_four,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        is_usable=key.is_usable(datetime.now(UTC)),
    )


def _render_issued(key: ApiKey, secret: str) -> Response:
    issued = IssuedKey(
        id=key.id,
        partner_system_id=key.partner_system_id,
        name=key.name,
        api_key=secret,
        created_at=key.created_at,
        expires_at=key.expires_at,
    )
    return render_created(IssuedKey, issued, f"/api/partnersystems/{key.partner_system_id}/apikeys/{key.id}")
