"""Routes of partners, their systems and keys."""

from datetime import timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from services.admin import models, store
from services.admin.administer import Administration
from services.admin.answers import body, created, path_id, show, show_page
from tracking.domain.api_key import ApiKey
from tracking.infra.http import json_response, read_query


class PartnerRoutes:
    """Handlers of `/api/partners` and `/api/partnersystems`."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    async def register_partner(self, request: Request) -> Response:
        """Register a partner."""
        wanted = await body(request, models.NewPartner)
        partner = await self._administration.register_partner(wanted.name, wanted.email)
        return created(models.RegisteredPartner, partner, f"/api/partners/{partner.id}")

    async def list_partners(self, request: Request) -> Response:
        """List partners, oldest first."""
        wanted = read_query(request, models.PartnerFilter)
        async with self._administration.reading() as connection:
            found = await store.list_partners(
                connection, wanted.is_active, wanted.email, wanted.page_size, wanted.offset
            )
        return show_page(models.PartnerPage, found, wanted)

    async def get_partner(self, request: Request) -> Response:
        """Show a partner."""
        async with self._administration.reading() as connection, connection.transaction():
            return show(models.PartnerAnswer, await store.load_partner(connection, path_id(request)))

    async def update_partner(self, request: Request) -> Response:
        """Change a partner's name or address."""
        wanted = await body(request, models.PartnerChange)
        partner = await self._administration.update_partner(path_id(request), wanted.name, wanted.email)
        return show(models.PartnerAnswer, partner)

    async def deactivate_partner(self, request: Request) -> Response:
        """Deactivate a partner: the keys of all its systems are refused within a second."""
        partner = await self._administration.set_partner_active(path_id(request), is_active=False)
        return show(models.PartnerAnswer, partner)

    async def activate_partner(self, request: Request) -> Response:
        """Activate a partner again."""
        partner = await self._administration.set_partner_active(path_id(request), is_active=True)
        return show(models.PartnerAnswer, partner)

    async def register_system(self, request: Request) -> Response:
        """Register a partner system; its first key is shown this once."""
        wanted = await body(request, models.NewSystem)
        system, secret = await self._administration.register_system(
            wanted.partner_id, wanted.name, wanted.type, wanted.description
        )
        answer = models.RegisteredSystem(
            id=system.id,
            partner_id=system.partner_id,
            name=system.name,
            type=system.type,
            description=system.description,
            api_key=secret,
            is_active=system.is_active,
        )
        return created(models.RegisteredSystem, answer, f"/api/partnersystems/{system.id}")

    async def list_systems(self, request: Request) -> Response:
        """List partner systems, oldest first."""
        wanted = read_query(request, models.SystemFilter)
        async with self._administration.reading() as connection:
            found = await store.list_systems(
                connection, wanted.partner_id, wanted.is_active, wanted.page_size, wanted.offset
            )
        return show_page(models.SystemPage, found, wanted)

    async def get_system(self, request: Request) -> Response:
        """Show a partner system."""
        async with self._administration.reading() as connection, connection.transaction():
            return show(models.SystemAnswer, await store.load_system(connection, path_id(request)))

    async def update_system(self, request: Request) -> Response:
        """Change a system's name, type or description."""
        wanted = await body(request, models.SystemChange)
        system = await self._administration.update_system(
            path_id(request), wanted.name, wanted.type, wanted.description
        )
        return show(models.SystemAnswer, system)

    async def deactivate_system(self, request: Request) -> Response:
        """Deactivate a system: its keys are refused within a second."""
        system = await self._administration.set_system_active(path_id(request), is_active=False)
        return show(models.SystemAnswer, system)

    async def activate_system(self, request: Request) -> Response:
        """Activate a system again."""
        system = await self._administration.set_system_active(path_id(request), is_active=True)
        return show(models.SystemAnswer, system)

    async def issue_key(self, request: Request) -> Response:
        """Create a further API key; it is shown this once."""
        wanted = await body(request, models.NewKey)
        key, secret = await self._administration.issue_key(path_id(request), wanted.name, wanted.expires_at)
        return _issued(key, secret)

    async def list_keys(self, request: Request) -> Response:
        """List the API keys of a system, without their secrets."""
        async with self._administration.reading() as connection, connection.transaction():
            system = await store.load_system(connection, path_id(request))
            keys = await store.list_keys(connection, system.id)
        answer: dict[str, Any] = {"items": keys, "total_count": len(keys)}
        return json_response(models.KeyList.model_validate(answer))

    async def rotate_key(self, request: Request) -> Response:
        """Replace an API key; the old one works on until its grace ends."""
        wanted = await body(request, models.Rotation, is_optional=True)
        grace = timedelta(seconds=wanted.grace_seconds)
        key, secret = await self._administration.rotate_key(path_id(request), path_id(request, "key_id"), grace)
        return _issued(key, secret)

    async def revoke_key(self, request: Request) -> Response:
        """Revoke an API key: it is refused within a second."""
        await self._administration.revoke_key(path_id(request), path_id(request, "key_id"))
        return Response(status_code=204)


def _issued(key: ApiKey, secret: str) -> Response:
    answer = models.IssuedKey(
        id=key.id,
        partner_system_id=key.partner_system_id,
        name=key.name,
        api_key=secret,
        created_at=key.created_at,
        expires_at=key.expires_at,
    )
    return created(models.IssuedKey, answer, f"/api/partnersystems/{key.partner_system_id}/apikeys")
