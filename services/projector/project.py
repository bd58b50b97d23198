"""Turns batches into rows of the read model and links between ids, inside the inbox transaction."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import repeat
from typing import Any
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
from tracking.domain.identity import LINKING_TYPES, Link, earliest, linked_ids
from tracking.infra import identities
from tracking.infra.postgres import Connection

CONSUMER = "projector"

_COLUMNS = (
    "partner_system_id",
    "id",
    "partner_id",
    "partner_name",
    "system_name",
    "event_name",
    "event_timestamp",
    "original_timestamp",
    "received_at",
    "user_id",
    "anonymous_id",
    "message_id",
    "event_properties",
    "schema_version",
    "is_valid",
    "validation_errors",
    "clock_adjusted",
    "correlation_id",
    "processed_at",
    "event_type",
    "context",
    "is_bot",
)


async def project(connection: Connection, batches: Sequence[EventsTracked]) -> set[tuple[UUID, date]]:
    """Insert the batches' events and link the ids they name; return the (system, UTC day) pairs that changed.

    Raises what PostgreSQL raises; the inbox then finds the batch that is at fault.
    """
    processed_at = datetime.now(UTC)
    await connection.copy_records_to_table(
        "tracking_events_read_model",
        schema_name="read",
        columns=_COLUMNS,
        records=[row for batch in batches for row in rows(batch, processed_at)],
    )
    await identities.link(connection, earliest(link for batch in batches for link in links(batch)))
    return {
        (batch.systems[number].partner_system_id, date.fromisoformat(day))
        for batch in batches
        for number, day in {
            (n, timestamp[:10]) for n, timestamp in zip(batch.system, batch.event_timestamp, strict=True)
        }
    }


def rows(batch: EventsTracked, processed_at: datetime) -> Iterator[tuple[Any, ...]]:
    """The events as COPY records in the order of `_COLUMNS`; ids stay text, asyncpg reads them as UUIDs."""
    parse = datetime.fromisoformat
    systems = [batch.systems[number] for number in batch.system]
    return zip(
        [system.partner_system_id for system in systems],
        batch.id,
        [system.partner_id for system in systems],
        [system.partner_name for system in systems],
        [system.system_name for system in systems],
        batch.event_name,
        map(parse, batch.event_timestamp),
        [None if timestamp is None else parse(timestamp) for timestamp in batch.original_timestamp],
        map(parse, batch.received_at),
        batch.user_id,
        batch.anonymous_id,
        batch.message_id,
        map(str.encode, batch.event_properties_json),
        batch.schema_version,
        batch.is_valid,
        [None if errors is None else errors.encode() for errors in batch.validation_errors_json],
        batch.clock_adjusted,
        batch.correlation_id,
        repeat(processed_at, batch.event_count),
        batch.event_type,
        [None if context is None else context.encode() for context in batch.context_json],
        batch.is_bot,
        strict=True,
    )


def links(batch: EventsTracked) -> Iterator[Link]:
    """What the batch says of ids that became users."""
    if not any(batch.event_type):
        return
    for n, event_type in enumerate(batch.event_type):
        if event_type not in LINKING_TYPES:
            continue
        user_id = batch.user_id[n]
        for kind, id_ in linked_ids(event_type, user_id, batch.anonymous_id[n], batch.event_properties_json[n]):
            yield Link(
                batch.systems[batch.system[n]].partner_system_id,
                kind,
                id_,
                str(user_id),
                datetime.fromisoformat(batch.event_timestamp[n]),
                UUID(batch.id[n]),
            )
