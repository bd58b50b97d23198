"""Turns batches into rows of the read model and links between ids, inside the inbox transaction."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
from tracking.domain.identity_link import (
    LINKING_EVENT_TYPES,
    IdentityLink,
    find_linked_ids,
    get_link_time,
    select_earliest,
)
from tracking.infra import copy_binary
from tracking.infra.copy_binary import Columns
from tracking.infra.postgres import Connection
from tracking.tables import identities
from tracking.tables.event_columns import READ_ENCODERS


async def project(connection: Connection, batches: Sequence[EventsTracked]) -> set[tuple[UUID, date]]:
    """Insert the batches' events and link the ids they name; return the (system, UTC day) pairs that changed.

    Raises what PostgreSQL raises; the inbox then searches for the batch that caused the error.
    """
    processed_at = datetime.now(UTC)
    await copy_binary.copy(
        connection,
        "tracking_events_read_model",
        schema="read",
        encoders=READ_ENCODERS,
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
    """Return the events as columns of the read model, in the order of READ_ENCODERS; ids and times stay text."""
    systems = [batch.systems[number] for number in batch.system_indexes]
    columns = {
        **batch.columns,
        "partner_system_id": [system.partner_system_id for system in systems],
        "partner_id": [system.partner_id for system in systems],
        "partner_name": [system.partner_name for system in systems],
        "system_name": [system.system_name for system in systems],
        "processed_at": [processed_at] * batch.event_count,
    }
    return [columns[name] for name in READ_ENCODERS]


def find_links(batch: EventsTracked) -> Iterator[IdentityLink]:
    """Return the links between ids and users that the events of the batch justify."""
    if not any(batch.event_types):
        return
    for n, event_type in enumerate(batch.event_types):
        if event_type not in LINKING_EVENT_TYPES:
            continue
        user_id = batch.user_ids[n]
        for kind, id_ in find_linked_ids(event_type, user_id, batch.anonymous_ids[n], batch.event_properties_json[n]):
            system_id = batch.systems[batch.system_indexes[n]].partner_system_id
            linked_at = get_link_time(
                system_id,
                datetime.fromisoformat(batch.event_timestamps[n]),
                datetime.fromisoformat(batch.received_at[n]),
            )
            yield IdentityLink(system_id, kind, id_, str(user_id), linked_at, UUID(batch.ids[n]))
