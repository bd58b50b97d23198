"""Turns batches into rows of the read model and links between ids, inside the inbox transaction."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
from tracking.domain.identity_link import LINKING_TYPES, IdentityLink, earliest, linked_ids
from tracking.infra import copy_binary
from tracking.infra.copy_binary import Columns, Encoder
from tracking.infra.postgres import Connection
from tracking.tables import identities

CONSUMER = "projector"

_ENCODERS: Mapping[str, Encoder] = {
    "partner_system_id": copy_binary.uuids,
    "id": copy_binary.uuid_texts,
    "partner_id": copy_binary.uuids,
    "partner_name": copy_binary.texts,
    "system_name": copy_binary.texts,
    "event_name": copy_binary.texts,
    "event_timestamp": copy_binary.timestamp_texts,
    "original_timestamp": copy_binary.timestamp_texts,
    "received_at": copy_binary.timestamp_texts,
    "user_id": copy_binary.texts,
    "anonymous_id": copy_binary.texts,
    "message_id": copy_binary.texts,
    "event_properties": copy_binary.jsonb_texts,
    "schema_version": copy_binary.integers,
    "is_valid": copy_binary.booleans,
    "validation_errors": copy_binary.jsonb_texts,
    "clock_adjusted": copy_binary.booleans,
    "correlation_id": copy_binary.texts,
    "processed_at": copy_binary.timestamps,
    "event_type": copy_binary.texts,
    "context": copy_binary.jsonb_texts,
    "is_bot": copy_binary.booleans,
}


async def project(connection: Connection, batches: Sequence[EventsTracked]) -> set[tuple[UUID, date]]:
    """Insert the batches' events and link the ids they name; return the (system, UTC day) pairs that changed.

    Raises what PostgreSQL raises; the inbox then finds the batch that is at fault.
    """
    processed_at = datetime.now(UTC)
    await copy_binary.copy(
        connection,
        "tracking_events_read_model",
        schema="read",
        encoders=_ENCODERS,
        groups=[columns(batch, processed_at) for batch in batches],
    )
    await identities.link(connection, earliest(link for batch in batches for link in links(batch)))
    return {
        (batch.systems[number].partner_system_id, date.fromisoformat(day))
        for batch in batches
        for number, day in {
            (n, timestamp[:10]) for n, timestamp in zip(batch.system, batch.event_timestamp, strict=True)
        }
    }


def columns(batch: EventsTracked, processed_at: datetime) -> Columns:
    """The events as columns of the read model, in the order of `_ENCODERS`; ids and times stay text."""
    systems = [batch.systems[number] for number in batch.system]
    return (
        [system.partner_system_id for system in systems],
        batch.id,
        [system.partner_id for system in systems],
        [system.partner_name for system in systems],
        [system.system_name for system in systems],
        batch.event_name,
        batch.event_timestamp,
        batch.original_timestamp,
        batch.received_at,
        batch.user_id,
        batch.anonymous_id,
        batch.message_id,
        batch.event_properties_json,
        batch.schema_version,
        batch.is_valid,
        batch.validation_errors_json,
        batch.clock_adjusted,
        batch.correlation_id,
        [processed_at] * batch.event_count,
        batch.event_type,
        batch.context_json,
        batch.is_bot,
    )


def links(batch: EventsTracked) -> Iterator[IdentityLink]:
    """What the batch says of ids that became users."""
    if not any(batch.event_type):
        return
    for n, event_type in enumerate(batch.event_type):
        if event_type not in LINKING_TYPES:
            continue
        user_id = batch.user_id[n]
        for kind, id_ in linked_ids(event_type, user_id, batch.anonymous_id[n], batch.event_properties_json[n]):
            yield IdentityLink(
                batch.systems[batch.system[n]].partner_system_id,
                kind,
                id_,
                str(user_id),
                datetime.fromisoformat(batch.event_timestamp[n]),
                UUID(batch.id[n]),
            )
