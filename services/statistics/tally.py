"""Turns batches into counts by hour: one upsert in key order inside the inbox transaction."""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

from tracking.contracts.events_tracked import EventsTracked
from tracking.infra.postgres import Connection

CONSUMER = "statistics"

# in key order, so that workers side by side lock rows in the same order and never each other
_ADD_COUNTS = """
insert into read.event_counts_hourly as known
       (partner_system_id, bucket, event_name, total, valid, invalid, bots_valid, bots_invalid)
select partner_system_id, bucket, event_name, valid + invalid, valid, invalid, bots_valid, bots_invalid
  from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
       as given (partner_system_id, bucket, event_name, valid, invalid, bots_valid, bots_invalid)
 order by partner_system_id, bucket, event_name
    on conflict (partner_system_id, bucket, event_name)
    do update set total = known.total + excluded.total,
                  valid = known.valid + excluded.valid,
                  invalid = known.invalid + excluded.invalid,
                  bots_valid = known.bots_valid + excluded.bots_valid,
                  bots_invalid = known.bots_invalid + excluded.bots_invalid
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
        *([counts[key][kind] for key in keys] for kind in range(4)),
    )
    return {(UUID(system), date.fromisoformat(hour[:10])) for system, hour, _ in keys}


def count(batches: Sequence[EventsTracked]) -> dict[tuple[str, str, str], list[int]]:
    """`{(system id, UTC hour as 2025-12-24T10, event name): [valid, invalid, valid of bots, invalid of bots]}`."""
    counts: dict[tuple[str, str, str], list[int]] = {}
    for batch in batches:
        systems = [str(system.partner_system_id) for system in batch.systems]
        for number, timestamp, name, is_valid, is_bot in zip(
            batch.system, batch.event_timestamp, batch.event_name, batch.is_valid, batch.is_bot, strict=True
        ):
            key = (systems[number], timestamp[:13], name)
            entry = counts.get(key)
            if entry is None:
                entry = counts[key] = [0, 0, 0, 0]
            entry[2 * is_bot + (not is_valid)] += 1
    return counts
