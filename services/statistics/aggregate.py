"""Turns batches into counts by hour and by day, inside the inbox transaction."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
from tracking.infra.postgres import Connection
from tracking.tables import rollups
from tracking.tables.rollups import COUNT_KIND_INDEXES, COUNT_KINDS


async def aggregate(connection: Connection, batches: Sequence[EventsTracked]) -> set[tuple[UUID, date]]:
    """Add the batches to the rollups; return the (system, UTC day) pairs that changed."""
    counts = count_events(batches)
    await rollups.add_counts(connection, counts)
    return {(system, hour.date()) for system, hour, _ in counts}


def count_events(batches: Sequence[EventsTracked]) -> rollups.HourlyCounts:
    """Count the events by system, UTC hour and event name."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    for batch in batches:
        systems = [str(system.partner_system_id) for system in batch.systems]
        for number, timestamp, name, is_valid, is_bot in zip(
            batch.system_indexes, batch.event_timestamps, batch.event_names, batch.is_valid, batch.is_bot, strict=True
        ):
            key = (systems[number], timestamp[:13], name)
            entry = counts.get(key)
            if entry is None:
                entry = counts[key] = [0] * len(COUNT_KINDS)
            entry[COUNT_KIND_INDEXES[is_bot][is_valid]] += 1
    return {
        (UUID(system), datetime.fromisoformat(f"{hour}:00:00+00:00"), name): numbers
        for (system, hour, name), numbers in counts.items()
    }
