"""Turns batches into counts by hour: one upsert in key order inside the inbox transaction."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
from tracking.infra.postgres import Connection

CONSUMER = "statistics"

# in key order, so that workers side by side lock rows in the same order and never each other
_ADD_COUNTS = """
insert into read.event_counts_hourly as known (partner_system_id, bucket, event_name, total, valid, invalid)
select partner_system_id, bucket, event_name, total, valid, total - valid
  from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[])
       as given (partner_system_id, bucket, event_name, total, valid)
 order by partner_system_id, bucket, event_name
    on conflict (partner_system_id, bucket, event_name)
    do update set total = known.total + excluded.total,
                  valid = known.valid + excluded.valid,
                  invalid = known.invalid + excluded.invalid
"""


async def tally(connection: Connection, batches: Sequence[EventsTracked]) -> set[tuple[UUID, date]]:
    """Add the batches to the rollup; return the (system, UTC day) pairs that changed."""
    counts = count(batches)
    keys = list(counts)
    await connection.execute(
        _ADD_COUNTS,
        [system for system, _, _ in keys],
        [datetime.fromisoformat(f"{hour}:00:00+00:00") for _, hour, _ in keys],
        [name for _, _, name in keys],
        [counts[key][0] for key in keys],
        [counts[key][1] for key in keys],
    )
    return {(UUID(system), date.fromisoformat(hour[:10])) for system, hour, _ in keys}


def count(batches: Sequence[EventsTracked]) -> dict[tuple[str, str, str], list[int]]:
    """`{(system id, UTC hour as 2025-12-24T10, event name): [total, valid]}`; times in the message are UTC."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    for batch in batches:
        systems = [str(system.partner_system_id) for system in batch.systems]
        for number, timestamp, name, is_valid in zip(
            batch.system, batch.event_timestamp, batch.event_name, batch.is_valid, strict=True
        ):
            key = (systems[number], timestamp[:13], name)
            entry = counts.get(key)
            if entry is None:
                entry = counts[key] = [0, 0]
            entry[0] += 1
            entry[1] += is_valid
    return counts
