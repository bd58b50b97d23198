"""The commands: each one transaction that loads, changes, saves and writes down what happened; caches hear after it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.admin import store, store_structures, store_tokens
from services.admin.outbox import Outbox, write_down
from tracking.domain.access_token import AccessToken, Scope
from tracking.domain.api_key import ApiKey
from tracking.domain.credentials import Fingerprint, make_secret
from tracking.domain.errors import Unavailable
from tracking.domain.event_structure import EventStructure, PartnerEventStructure, StructureVersion
from tracking.domain.partner import Partner, PartnerSystem, SystemType
from tracking.domain.tracking_event import fresh_id, to_unix_ms
from tracking.infra import postgres
from tracking.infra.postgres import Connection, Pool
from tracking.infra.validation import check_schema

_log = logging.getLogger(__name__)
FIRST_KEY_NAME = "default"


class Administration:
    """Every command raises the domain's errors, and Unavailable when the write database is away."""

    def __init__(self, pool: Pool, outbox: Outbox, new_bits: Any) -> None:
        self._pool = pool
        self._outbox = outbox
        self._new_bits = new_bits

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[Connection]:
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection
        except postgres.TRANSIENT as error:
            _log.warning("a change failed: %s", postgres.describe(error))
            raise Unavailable("database_unavailable", "The change could not be made now; try again.", 2) from error
        await self._outbox.deliver()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Connection]:
        """A connection for a query."""
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except postgres.TRANSIENT as error:
            raise Unavailable("database_unavailable", "The database cannot be read now; try again.", 2) from error

    def _new_id(self, now: datetime) -> UUID:
        return fresh_id(to_unix_ms(now), self._new_bits(74))

    async def register_partner(self, name: str, email: str) -> Partner:
        """Raises Conflict if the address is taken."""
        now = datetime.now(UTC)
        partner = Partner.register(self._new_id(now), name, email, now)
        async with self._change() as connection:
            await store.insert_partner(connection, partner)
            await write_down(connection, partner.take_events())
        return partner

    async def update_partner(self, partner_id: UUID, name: str | None, email: str | None) -> Partner:
        """Change what is given."""
        async with self._change() as connection:
            partner = await store.load_partner(connection, partner_id)
            partner.update(datetime.now(UTC), name=name, email=email)
            await store.update_partner(connection, partner)
            await write_down(connection, partner.take_events())
        return partner

    async def set_partner_active(self, partner_id: UUID, *, is_active: bool) -> Partner:
        """Activate or deactivate."""
        now = datetime.now(UTC)
        async with self._change() as connection:
            partner = await store.load_partner(connection, partner_id)
            partner.activate(now) if is_active else partner.deactivate(now)
            await store.update_partner(connection, partner)
            await write_down(connection, partner.take_events())
        return partner

    async def register_system(
        self, partner_id: UUID, name: str, type_: SystemType, description: str
    ) -> tuple[PartnerSystem, str]:
        """The system and the secret of its first key."""
        now = datetime.now(UTC)
        async with self._change() as connection:
            partner = await store.load_partner(connection, partner_id)
            system = PartnerSystem.register(self._new_id(now), partner, name, type_, description, now)
            secret = make_secret("sk_")
            key = ApiKey.issue(self._new_id(now), system.id, FIRST_KEY_NAME, secret, now)
            await store.insert_system(connection, system)
            await store.insert_key(connection, key)
            await write_down(connection, system.take_events() + key.take_events())
        return system, secret

    async def update_system(
        self, system_id: UUID, name: str | None, type_: SystemType | None, description: str | None
    ) -> PartnerSystem:
        """Change what is given."""
        async with self._change() as connection:
            system = await store.load_system(connection, system_id)
            system.update(datetime.now(UTC), name=name, type=type_, description=description)
            await store.update_system(connection, system)
            await write_down(connection, system.take_events())
        return system

    async def set_system_active(self, system_id: UUID, *, is_active: bool) -> PartnerSystem:
        """Activate or deactivate."""
        now = datetime.now(UTC)
        async with self._change() as connection:
            system = await store.load_system(connection, system_id)
            system.activate(now) if is_active else system.deactivate(now)
            await store.update_system(connection, system)
            await write_down(connection, system.take_events())
        return system

    async def issue_key(self, system_id: UUID, name: str, expires_at: datetime | None) -> tuple[ApiKey, str]:
        """A further key and its secret."""
        now = datetime.now(UTC)
        async with self._change() as connection:
            system = await store.load_system(connection, system_id)
            secret = make_secret("sk_")
            key = ApiKey.issue(self._new_id(now), system.id, name, secret, now, expires_at)
            await store.insert_key(connection, key)
            await write_down(connection, key.take_events())
        return key, secret

    async def rotate_key(self, system_id: UUID, key_id: UUID, grace: timedelta) -> tuple[ApiKey, str]:
        """The successor and its secret; the old key works on for `grace`."""
        now = datetime.now(UTC)
        async with self._change() as connection:
            key = await store.load_key(connection, system_id, key_id)
            secret = make_secret("sk_")
            successor = key.rotate(self._new_id(now), secret, now, grace)
            await store.update_key(connection, key)
            await store.insert_key(connection, successor)
            await write_down(connection, key.take_events() + successor.take_events())
        return successor, secret

    async def revoke_key(self, system_id: UUID, key_id: UUID) -> None:
        """End a key at once."""
        async with self._change() as connection:
            key = await store.load_key(connection, system_id, key_id)
            key.revoke(datetime.now(UTC))
            await store.update_key(connection, key)
            await write_down(connection, key.take_events())

    async def define_structure(
        self, partner_id: UUID | None, event_name: str, description: str, schema: Any, *, publish: bool
    ) -> EventStructure:
        """A structure with its first version; global unless `partner_id` is given."""
        check_schema(schema)
        now = datetime.now(UTC)
        id_ = self._new_id(now)
        structure = (
            EventStructure.define(id_, event_name, description, now)
            if partner_id is None
            else PartnerEventStructure.define_for(partner_id, id_, event_name, description, now)
        )
        structure.add_version(schema, now, publish=publish)
        async with self._change() as connection:
            await store_structures.insert_structure(connection, structure)
            await write_down(connection, structure.take_events())
        return structure

    async def add_version(self, structure_id: UUID, schema: Any, *, publish: bool) -> StructureVersion:
        """The next version of a structure."""
        check_schema(schema)
        async with self._structure(structure_id) as structure:
            return structure.add_version(schema, datetime.now(UTC), publish=publish)

    async def publish_version(self, structure_id: UUID, number: int) -> StructureVersion:
        """Raises Conflict unless it is a draft."""
        async with self._structure(structure_id) as structure:
            return structure.publish(number, datetime.now(UTC))

    async def deprecate_version(self, structure_id: UUID, number: int) -> StructureVersion:
        """Raises Conflict unless it is published."""
        async with self._structure(structure_id) as structure:
            return structure.deprecate(number, datetime.now(UTC))

    @asynccontextmanager
    async def _structure(self, structure_id: UUID) -> AsyncIterator[EventStructure]:
        async with self._change() as connection:
            structure = await store_structures.load_structure(connection, structure_id)
            yield structure
            await store_structures.update_structure(connection, structure)
            await write_down(connection, structure.take_events())

    async def issue_token(
        self, name: str, scope: Scope, partner_id: UUID | None, expires_at: datetime | None
    ) -> tuple[AccessToken, str]:
        """A token and its secret."""
        now = datetime.now(UTC)
        secret = make_secret("tk_")
        token = AccessToken.issue(
            self._new_id(now), name, secret, scope, now, partner_id=partner_id, expires_at=expires_at
        )
        async with self._change() as connection:
            await store_tokens.insert_token(connection, token)
            await write_down(connection, token.take_events())
        return token, secret

    async def revoke_token(self, token_id: UUID) -> None:
        """End a token at once."""
        async with self._change() as connection:
            token = await store_tokens.load_token(connection, token_id)
            token.revoke(datetime.now(UTC))
            await store_tokens.update_token(connection, token)
            await write_down(connection, token.take_events())

    async def accept_bootstrap_token(self, secret: str) -> None:
        """Make the environment's admin token good, and those that the environment named earlier void."""
        now = datetime.now(UTC)
        wanted = Fingerprint.of(secret).sha256
        async with self._change() as connection:
            known = await store_tokens.bootstrap_tokens(connection)
            for row in known:
                if row["token_sha256"] != wanted and row["revoked_at"] is None:
                    token = await store_tokens.load_token(connection, row["id"])
                    token.revoke(now)
                    await store_tokens.update_token(connection, token)
                    await write_down(connection, token.take_events())
                elif row["token_sha256"] == wanted and row["revoked_at"] is not None:
                    await store_tokens.restore_bootstrap(connection, row["id"], now)
            if all(row["token_sha256"] != wanted for row in known):
                token = AccessToken.issue(self._new_id(now), store_tokens.BOOTSTRAP_NAME, secret, Scope.ADMIN, now)
                await store_tokens.insert_token(connection, token)
                await write_down(connection, token.take_events())
