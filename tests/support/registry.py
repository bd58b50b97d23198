"""Partners, systems, keys and structures put straight into the write database, for tests that are not about admin."""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from deploy.local.server import random_secret
from tests.support.stack import Stack

_PARTNER = """
insert into write.partners (id, name, email, is_active, created_at, updated_at)
values ($1, $2, $3, true, now(), now())
"""

_SYSTEM = """
insert into write.partner_systems (id, partner_id, name, type, is_active, created_at, updated_at)
values ($1, $2, $3, 1, true, now(), now())
"""

_KEY = """
insert into write.api_keys (id, partner_system_id, name, key_sha256, prefix, last_four, created_at)
values ($1, $2, 'test', $3, 'sk_', $4, now())
"""

_STRUCTURE = """
insert into write.event_structures (id, partner_id, event_name, created_at, updated_at)
values ($1, $2, $3, now(), now())
"""

_VERSION = """
insert into write.event_structure_versions (structure_id, version, schema, status, created_at, published_at)
values ($1, $2, $3, 'published', now(), now())
"""


@dataclass(frozen=True, slots=True)
class Registered:
    """A system that may send."""

    partner_id: UUID
    system_id: UUID
    api_key: str


async def register_system(stack: Stack, name: str = "Website", partner_id: UUID | None = None) -> Registered:
    """A system with a key, of a new partner unless one is given."""
    owner = await stack.write()
    system_id, api_key = uuid4(), f"sk_{random_secret()}"
    if partner_id is None:
        partner_id = uuid4()
        await owner.execute(_PARTNER, partner_id, f"Partner of {name}", f"{partner_id}@example.com")
    await owner.execute(_SYSTEM, system_id, partner_id, name)
    await owner.execute(_KEY, uuid4(), system_id, sha256(api_key.encode()).digest(), api_key[-4:])
    return Registered(partner_id, system_id, api_key)


async def publish_structure(
    stack: Stack, event_name: str, *schemas: dict[str, Any], partner_id: UUID | None = None
) -> UUID:
    """A structure whose versions 1, 2, … are the `schemas`, all published; global unless `partner_id` is given."""
    owner = await stack.write()
    structure_id = uuid4()
    await owner.execute(_STRUCTURE, structure_id, partner_id, event_name)
    for version, schema in enumerate(schemas, 1):
        await owner.execute(_VERSION, structure_id, version, json.dumps(schema))
    return structure_id
