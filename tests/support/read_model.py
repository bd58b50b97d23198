"""Events, counts and tokens put straight into the read database, for tests of query alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

from deploy.local.server import random_secret
from tests.support.stack import Stack
from tracking.infra.postgres import prepare_connection
from tracking.tables import rollups

COLUMNS = (
    "partner_system_id", "id", "partner_id", "partner_name", "system_name", "event_name", "event_timestamp",
    "original_timestamp", "received_at", "user_id", "anonymous_id", "message_id", "event_properties", "schema_version",
    "is_valid", "validation_errors", "clock_adjusted", "correlation_id", "processed_at",
    "event_type", "is_bot",
)  # fmt: skip

_RAISE_VERSION = """
insert into read.range_versions as known (partner_system_id, day, consumer, version)
values ($1, $2, $3, 1)
    on conflict (partner_system_id, day, consumer)
    do update set version = known.version + 1
"""

_PARTNER = """
insert into write.partners (id, name, email, is_active, created_at, updated_at)
values ($1, 'Acme', $2, true, now(), now())
    on conflict do nothing
"""

_TOKEN = """
insert into write.access_tokens
       (token_sha256, id, scope, partner_id, expires_at, revoked_at, updated_at, name, prefix, last_four, created_at)
values ($1, $2, $3, $4, $5, $6, now(), 'test', 'tk_', '', now())
"""

_REPLICATED_TOKEN = """
insert into read.access_tokens (token_sha256, id, scope, partner_id, expires_at, revoked_at, updated_at)
values ($1, $2, $3, $4, $5, $6, now())
"""


@dataclass(frozen=True, slots=True)
class System:
    """A system of a partner, as the relay would have copied it."""

    partner_id: UUID = field(default_factory=uuid4)
    id: UUID = field(default_factory=uuid4)


@dataclass(slots=True)
class Seen:
    """One event of the read model; what is not given does not matter to the test."""

    at: datetime
    name: str = "page_view"
    id: UUID = field(default_factory=uuid4)
    is_valid: bool = True
    user_id: str | None = None
    anonymous_id: str | None = "anon_1"
    correlation_id: str = "c1"
    properties: bytes = b"{}"
    message_id: str | None = None
    event_type: str | None = None
    is_bot: bool = False

    def row(self, system: System) -> tuple[Any, ...]:
        """In the order of COLUMNS."""
        errors = None if self.is_valid else b'[{"code": "type"}]'
        now = datetime.now(UTC)
        return (
            system.id, self.id, system.partner_id, "Acme Corp", "Acme Website", self.name, self.at, None, now,
            self.user_id, self.anonymous_id, self.message_id, self.properties, None, self.is_valid, errors, False,
            self.correlation_id, now, self.event_type, self.is_bot,
        )  # fmt: skip


async def add_system(stack: Stack, system: System | None = None) -> System:
    """A system that query knows."""
    system = system or System()
    owner = await stack.read()
    await owner.execute(
        "insert into read.partner_systems (id, partner_id, name, updated_at) values ($1, $2, 'Acme Website', now())",
        system.id,
        system.partner_id,
    )
    return system


async def add_events(stack: Stack, system: System, events: Iterable[Seen]) -> None:
    """As both workers would: rows, counts, and a new version of each day."""
    events = list(events)
    owner = await stack.read()
    for month in {event.at.date().replace(day=1) for event in events}:
        await owner.execute("select read.create_partition('tracking_events_read_model', $1)", month)
    await prepare_connection(owner)
    await owner.copy_records_to_table(
        "tracking_events_read_model",
        schema_name="read",
        columns=COLUMNS,
        records=[event.row(system) for event in events],
    )
    await rollups.add_counts(owner, _counts(system, events))
    days = {event.at.date() for event in events}
    await owner.executemany(
        _RAISE_VERSION, [(system.id, day, who) for day in days for who in ("projector", "statistics")]
    )


def _counts(system: System, events: Sequence[Seen]) -> rollups.HourlyCounts:
    counts: dict[rollups.HourlyCountKey, list[int]] = {}
    for event in events:
        key = (system.id, event.at.replace(minute=0, second=0, microsecond=0), event.name)
        kind = rollups.COUNT_KIND_INDEXES[event.is_bot][event.is_valid]
        counts.setdefault(key, [0] * len(rollups.COUNT_KINDS))[kind] += 1
    return counts


async def add_token(
    stack: Stack,
    scope: str = "read",
    partner_id: UUID | None = None,
    expires_at: datetime | None = None,
    revoked_at: datetime | None = None,
) -> str:
    """A token in both databases, as the relay would have replicated it."""
    token = f"tk_{random_secret()}"
    owner, replica = await stack.write(), await stack.read()
    values = (sha256(token.encode()).digest(), uuid4(), scope, partner_id, expires_at, revoked_at)
    if partner_id is not None:
        await owner.execute(_PARTNER, partner_id, f"{partner_id}@example.com")
    await owner.execute(_TOKEN, *values)
    await replica.execute(_REPLICATED_TOKEN, *values)
    return token
