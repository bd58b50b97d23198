"""Turns batches into rows of the read model: one COPY inside the inbox transaction."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
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
)


async def project(connection: Connection, batches: Sequence[EventsTracked]) -> set[tuple[UUID, date]]:
    """Insert the batches' events; return the (system, UTC day) pairs that changed.

    Raises what PostgreSQL raises; the inbox then finds the batch that is at fault.
    """
    processed_at = datetime.now(UTC)
    await connection.copy_records_to_table(
        "tracking_events_read_model",
        schema_name="read",
        columns=_COLUMNS,
        records=[row for batch in batches for row in rows(batch, processed_at)],
    )
    touched = {
        (batch.systems[event["system"]]["partnerSystemId"], event["eventTimestamp"][:10])
        for batch in batches
        for event in batch.events
    }
    return {(UUID(system), date.fromisoformat(day)) for system, day in touched}


def rows(batch: EventsTracked, processed_at: datetime) -> Iterator[tuple[Any, ...]]:
    """The events as COPY records in the order of `_COLUMNS`; ids stay text, asyncpg reads them as UUIDs."""
    parse = datetime.fromisoformat
    contexts = [
        (system["partnerSystemId"], system["partnerId"], system["partnerName"], system["systemName"])
        for system in batch.systems
    ]
    for event in batch.events:
        system_id, partner_id, partner_name, system_name = contexts[event["system"]]
        original = event.get("originalTimestamp")
        errors = event.get("validationErrorsJson")
        yield (
            system_id,
            event["id"],
            partner_id,
            partner_name,
            system_name,
            event["eventName"],
            parse(event["eventTimestamp"]),
            parse(original) if original else None,
            parse(event["receivedAt"]),
            event.get("userId"),
            event.get("anonymousId"),
            event.get("messageId"),
            event["eventPropertiesJson"].encode(),
            event.get("schemaVersion"),
            event["isValid"],
            errors.encode() if errors else None,
            event.get("clockAdjusted", False),
            event["correlationId"],
            processed_at,
        )
