"""The commands of admin. Each is one unit of work: load an aggregate, change it, save it, record its domain events.

The caches are updated after the commit and before the command returns. A command that ends access returns when it has
ended everywhere, whether or not the caches could be updated.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.admin.store import access_tokens, api_keys, event_structures, partner_systems, partners
from services.admin.unit_of_work import UnitOfWorkFactory
from tracking.contracts.invalidation import CREDENTIAL_TRUST_S
from tracking.domain.access_token import AccessToken, Scope
from tracking.domain.api_key import ApiKey
from tracking.domain.credentials import Fingerprint, generate_secret
from tracking.domain.errors import Conflict, Malformed
from tracking.domain.event_structure import EventStructure, PartnerEventStructure, StructureVersion
from tracking.domain.partner import Partner, PartnerSystem, SystemType
from tracking.domain.system_settings import DEFAULT_SETTINGS, SystemSettings
from tracking.infra.validation import check_schema
from tracking.tables.dead_letters import decisions, queries
from tracking.tables.dead_letters.queries import DeadLetter

_log = logging.getLogger(__name__)
FIRST_KEY_NAME = "default"
BOOTSTRAP_NAME = "bootstrap"
# A key that is replaced with a shorter grace has ended when the answer arrives.
_PROMPT = timedelta(seconds=CREDENTIAL_TRUST_S)


class AdminCommands:
    """Every command raises the errors of the domain, and Unavailable if the write database cannot be reached."""

    def __init__(self, units_of_work: UnitOfWorkFactory) -> None:
        self._units_of_work = units_of_work
        self.read_connection = units_of_work.read_connection

    async def register_partner(self, name: str, email: str) -> Partner:
        """Register a partner. Raises Conflict if the address belongs to another partner."""
        now = datetime.now(UTC)
        partner = Partner.register(self._units_of_work.new_id(now), name, email, now)
        async with self._units_of_work.begin() as unit_of_work:
            await partners.insert_partner(unit_of_work.connection, partner)
            await unit_of_work.record_events(partner)
        return partner

    async def update_partner(self, partner_id: UUID, name: str | None, email: str | None) -> Partner:
        """Change the given fields of a partner."""
        async with self._units_of_work.begin() as unit_of_work:
            partner = await partners.find_partner(unit_of_work.connection, partner_id, should_lock=True)
            partner.update(datetime.now(UTC), name=name, email=email)
            await partners.update_partner(unit_of_work.connection, partner)
            await unit_of_work.record_events(partner)
        return partner

    async def set_partner_active(self, partner_id: UUID, *, is_active: bool) -> Partner:
        """Activate or deactivate."""
        now = datetime.now(UTC)
        async with self._units_of_work.begin(ends_access=not is_active) as unit_of_work:
            partner = await partners.find_partner(unit_of_work.connection, partner_id, should_lock=True)
            partner.activate(now) if is_active else partner.deactivate(now)
            await partners.update_partner(unit_of_work.connection, partner)
            await unit_of_work.record_events(partner)
        return partner

    async def register_system(
        self,
        partner_id: UUID,
        name: str,
        type_: SystemType,
        description: str,
        settings: SystemSettings = DEFAULT_SETTINGS,
    ) -> tuple[PartnerSystem, str]:
        """Register a system, and return it with the secret of its first key."""
        now = datetime.now(UTC)
        async with self._units_of_work.begin() as unit_of_work:
            partner = await partners.find_partner(unit_of_work.connection, partner_id)
            id_ = self._units_of_work.new_id(now)
            system = PartnerSystem.register(id_, partner, name, type_, description, now, settings)
            secret = generate_secret("sk_")
            key = ApiKey.issue(self._units_of_work.new_id(now), system.id, FIRST_KEY_NAME, secret, now)
            await partner_systems.insert_system(unit_of_work.connection, system)
            await api_keys.insert_key(unit_of_work.connection, key)
            await unit_of_work.record_events(system, key)
        return system, secret

    async def update_system(
        self,
        partner_system_id: UUID,
        name: str | None,
        type_: SystemType | None,
        description: str | None,
        change_settings: Callable[[SystemSettings], SystemSettings] | None = None,
    ) -> PartnerSystem:
        """Change the given fields; `change_settings` makes the new settings from the present ones."""
        now = datetime.now(UTC)
        async with self._units_of_work.begin() as unit_of_work:
            system = await partner_systems.find_system(unit_of_work.connection, partner_system_id, should_lock=True)
            system.update(now, name=name, type=type_, description=description)
            if change_settings is not None:
                system.change_settings(now, change_settings(system.settings))
            await partner_systems.update_system(unit_of_work.connection, system)
            await unit_of_work.record_events(system)
        return system

    async def set_system_active(self, partner_system_id: UUID, *, is_active: bool) -> PartnerSystem:
        """Activate or deactivate."""
        now = datetime.now(UTC)
        async with self._units_of_work.begin(ends_access=not is_active) as unit_of_work:
            system = await partner_systems.find_system(unit_of_work.connection, partner_system_id, should_lock=True)
            system.activate(now) if is_active else system.deactivate(now)
            await partner_systems.update_system(unit_of_work.connection, system)
            await unit_of_work.record_events(system)
        return system

    async def issue_key(self, partner_system_id: UUID, name: str, expires_at: datetime | None) -> tuple[ApiKey, str]:
        """Create a further API key, and return it with its secret."""
        now = datetime.now(UTC)
        async with self._units_of_work.begin() as unit_of_work:
            system = await partner_systems.find_system(unit_of_work.connection, partner_system_id)
            secret = generate_secret("sk_")
            key = ApiKey.issue(self._units_of_work.new_id(now), system.id, name, secret, now, expires_at)
            await api_keys.insert_key(unit_of_work.connection, key)
            await unit_of_work.record_events(key)
        return key, secret

    async def rotate_key(self, partner_system_id: UUID, key_id: UUID, grace: timedelta) -> tuple[ApiKey, str]:
        """Replace a key, and return its successor with the secret. The old key works until `grace` has passed."""
        async with self._units_of_work.begin(ends_access=grace < _PROMPT) as unit_of_work:
            key = await api_keys.find_key(unit_of_work.connection, partner_system_id, key_id, should_lock=True)
            # Read with the row locked: the command that held it may have used a time after this one began to wait.
            now = datetime.now(UTC)
            secret = generate_secret("sk_")
            successor = key.rotate(self._units_of_work.new_id(now), secret, now, grace)
            await api_keys.update_key(unit_of_work.connection, key)
            await api_keys.insert_key(unit_of_work.connection, successor)
            await unit_of_work.record_events(key, successor)
        return successor, secret

    async def revoke_key(self, partner_system_id: UUID, key_id: UUID) -> None:
        """Revoke a key for good; it has ended everywhere when this returns."""
        async with self._units_of_work.begin(ends_access=True) as unit_of_work:
            key = await api_keys.find_key(unit_of_work.connection, partner_system_id, key_id, should_lock=True)
            key.revoke(datetime.now(UTC))
            await api_keys.update_key(unit_of_work.connection, key)
            await unit_of_work.record_events(key)

    async def define_structure(
        self, partner_id: UUID | None, event_name: str, description: str, schema: Any, *, publish: bool
    ) -> EventStructure:
        """Create a structure with its first version; it is global unless `partner_id` is given."""
        await _check_schema(schema)
        now = datetime.now(UTC)
        id_ = self._units_of_work.new_id(now)
        structure = (
            EventStructure.define(id_, event_name, description, now)
            if partner_id is None
            else PartnerEventStructure.define_for_partner(partner_id, id_, event_name, description, now)
        )
        structure.add_version(schema, now, publish=publish)
        async with self._units_of_work.begin() as unit_of_work:
            await event_structures.insert_structure(unit_of_work.connection, structure)
            await unit_of_work.record_events(structure)
        return structure

    async def add_version(self, structure_id: UUID, schema: Any, *, publish: bool) -> StructureVersion:
        """Add the next version of a structure."""
        await _check_schema(schema)
        async with self._edit_structure(structure_id) as structure:
            return structure.add_version(schema, datetime.now(UTC), publish=publish)

    async def publish_version(self, structure_id: UUID, number: int) -> StructureVersion:
        """Publish a version. Raises Conflict unless the version is a draft."""
        async with self._edit_structure(structure_id) as structure:
            return structure.publish(number, datetime.now(UTC))

    async def deprecate_version(self, structure_id: UUID, number: int) -> StructureVersion:
        """Deprecate a version. Raises Conflict unless the version is published."""
        async with self._edit_structure(structure_id) as structure:
            return structure.deprecate(number, datetime.now(UTC))

    @asynccontextmanager
    async def _edit_structure(self, structure_id: UUID) -> AsyncIterator[EventStructure]:
        async with self._units_of_work.begin() as unit_of_work:
            structure = await event_structures.find_structure(unit_of_work.connection, structure_id, should_lock=True)
            yield structure
            await event_structures.update_structure(unit_of_work.connection, structure)
            await unit_of_work.record_events(structure)

    async def issue_token(
        self, name: str, scope: Scope, partner_id: UUID | None, expires_at: datetime | None
    ) -> tuple[AccessToken, str]:
        """Create an access token, and return it with its secret."""
        if name.strip() == BOOTSTRAP_NAME:
            fault = {"field": "name", "message": f"{BOOTSTRAP_NAME!r} is the token that the environment names"}
            raise Malformed("invalid_body", f"name: {fault['message']}.", [fault])
        now = datetime.now(UTC)
        secret = generate_secret("tk_")
        token = AccessToken.issue(
            self._units_of_work.new_id(now), name, secret, scope, now, partner_id=partner_id, expires_at=expires_at
        )
        async with self._units_of_work.begin() as unit_of_work:
            await access_tokens.insert_token(unit_of_work.connection, token)
            await unit_of_work.record_events(token)
        return token, secret

    async def revoke_token(self, token_id: UUID) -> None:
        """Revoke an access token for good; it has ended everywhere when this returns."""
        async with self._units_of_work.begin(ends_access=True) as unit_of_work:
            token = await access_tokens.find_token(unit_of_work.connection, token_id, should_lock=True)
            token.revoke(datetime.now(UTC))
            await access_tokens.update_token(unit_of_work.connection, token)
            await unit_of_work.record_events(token)

    async def retry_dead_letter(self, letter_id: UUID) -> DeadLetter:
        """Mark a dead letter so that the relay publishes its message again.

        Raises Conflict if the message was applied or cannot be published.
        """
        async with self._units_of_work.begin() as unit_of_work:
            await decisions.mark_for_retry(unit_of_work.connection, letter_id)
            return await queries.find_dead_letter(unit_of_work.connection, letter_id)

    async def discard_dead_letter(self, letter_id: UUID) -> DeadLetter:
        """Mark a dead letter as discarded: its message is never applied. Raises Conflict if it was applied."""
        async with self._units_of_work.begin() as unit_of_work:
            await decisions.mark_discarded(unit_of_work.connection, letter_id)
            return await queries.find_dead_letter(unit_of_work.connection, letter_id)

    async def accept_bootstrap_token(self, secret: str) -> None:
        """Store the environment's admin token if it is new, and revoke the tokens that it named earlier.

        A token that was revoked stays revoked: nothing is changed then. Raises Conflict where the secret is that of a
        token which may only read.
        """
        now = datetime.now(UTC)
        wanted = Fingerprint.from_secret(secret)
        async with self._units_of_work.begin() as unit_of_work:
            known = await access_tokens.lock_bootstrap_tokens(unit_of_work.connection, BOOTSTRAP_NAME, wanted.sha256)
            named = next((token for token in known if token.fingerprint == wanted), None)
            if named is not None and named.scope is not Scope.ADMIN:
                raise Conflict("not_an_admin_token", "The environment's admin token is known as one that may read.")
            if named is not None and named.revoked_at is not None:
                _log.warning("the environment names an admin token that was revoked; it stays revoked")
                return
            for token in known:
                if token is not named:
                    token.revoke(now)
                    await access_tokens.update_token(unit_of_work.connection, token)
                    await unit_of_work.record_events(token)
            if named is None:
                token = AccessToken.issue(self._units_of_work.new_id(now), BOOTSTRAP_NAME, secret, Scope.ADMIN, now)
                await access_tokens.insert_token(unit_of_work.connection, token)
                await unit_of_work.record_events(token)


async def _check_schema(schema: Any) -> None:
    # In a thread, because checking a large schema would block the event loop for other requests.
    await asyncio.to_thread(check_schema, schema)
