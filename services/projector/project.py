"""Turns batches into rows of the read model and links between ids, inside the inbox transaction."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
from tracking.domain.identity_link import LINKING_EVENT_TYPES, IdentityLink, find_linked_ids, select_earliest
from tracking.infra import copy_binary
from tracking.infra.copy_binary import Columns, Encoder
from tracking.infra.postgres import Connection
from tracking.tables import identities

_ENCODERS: Mapping[str, Encoder] = {
    "partner_system_id": copy_binary.encode_uuids,
    "id": copy_binary.encode_uuids_from_text,
    "partner_id": copy_binary.encode_uuids,
    "partner_name": copy_binary.encode_texts,
    "system_name": copy_binary.encode_texts,
    "event_name": copy_binary.encode_texts,
    "event_timestamp": copy_binary.encode_timestamps_from_text,
    "original_timestamp": copy_binary.encode_timestamps_from_text,
    "received_at": copy_binary.encode_timestamps_from_text,
    "user_id": copy_binary.encode_texts,
    "anonymous_id": copy_binary.encode_texts,
    "message_id": copy_binary.encode_texts,
    "event_properties": copy_binary.encode_jsonb_from_text,
    "schema_version": copy_binary.encode_integers,
    "is_valid": copy_binary.encode_booleans,
    "validation_errors": copy_binary.encode_jsonb_from_text,
    "clock_adjusted": copy_binary.encode_booleans,
    "correlation_id": copy_binary.encode_texts,
    "processed_at": copy_binary.encode_timestamps,
    "event_type": copy_binary.encode_texts,
    "context": copy_binary.encode_jsonb_from_text,
    "is_bot": copy_binary.encode_booleans,
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
        groups=[to_columns(batch, processed_at) for batch in batches],
    )
    await identities.insert_earlier_links(
        connection, select_earliest(link for batch in batches for link in find_links(batch))
    )
    return {
        (batch.systems[number].partner_system_id, date.fromisoformat(day))
        for batch in batches
        for number, day in {
            (n, timestamp[:10]) for n, timestamp in zip(batch.system_indexes, batch.event_timestamps, strict=True)
        }
    }


def to_columns(batch: EventsTracked, processed_at: datetime) -> Columns:
    """The events as columns of the read model, in the order of `_ENCODERS`; ids and times stay text."""
    systems = [batch.systems[number] for number in batch.system_indexes]
    return (
        [system.partner_system_id for system in systems],
        batch.ids,
        [system.partner_id for system in systems],
        [system.partner_name for system in systems],
        [system.system_name for system in systems],
        batch.event_names,
        batch.event_timestamps,
        batch.original_timestamps,
        batch.received_ats,
        batch.user_ids,
        batch.anonymous_ids,
        batch.message_ids,
        batch.event_properties_json,
        batch.schema_version,
        batch.is_valid,
        batch.validation_errors_json,
        batch.clock_adjusted,
        batch.correlation_ids,
        [processed_at] * batch.event_count,
        batch.event_types,
        batch.context_json,
        batch.is_bot,
    )


def find_links(batch: EventsTracked) -> Iterator[IdentityLink]:
    """What the batch says of ids that became users."""
    if not any(batch.event_types):
        return
    for n, event_type in enumerate(batch.event_types):
        if event_type not in LINKING_EVENT_TYPES:
            continue
        user_id = batch.user_ids[n]
        for kind, id_ in find_linked_ids(event_type, user_id, batch.anonymous_ids[n], batch.event_properties_json[n]):
            yield IdentityLink(
                batch.systems[batch.system_indexes[n]].partner_system_id,
                kind,
                id_,
                str(user_id),
                datetime.fromisoformat(batch.event_timestamps[n]),
                UUID(batch.ids[n]),
            )
