"""Fills the read model with a year of events as fast as PostgreSQL takes them, and leaves it as the workers would have.

    python -m tests.load.loader --url postgresql://owner@host/tracking_read --events 10000000

Each month's partition is taken out while it is filled: COPY into a table without indexes, the same indexes afterwards,
then back in. The inbox stays empty, as there are no batches in a write database that it could be about.
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import psycopg
from psycopg import sql
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.load.loader.events import (
    COLUMNS,
    COPY_SIGNATURE,
    COPY_TRAILER,
    NAMES,
    PARTNER_NAME,
    SYSTEM_NAMES,
    Counts,
    Year,
)
from tracking.tables.rollups import COUNT_KINDS

Connection = psycopg.Connection[tuple[Any, ...]]
TABLE = "tracking_events_read_model"
_COUNTS = ("event_counts_hourly", "event_counts_daily")

_IS_EMPTY = """
select not exists (
           select from read.tracking_events_read_model
            where event_timestamp >= %(start)s and event_timestamp < %(stop)s
       )
   and not exists (select from read.event_counts_hourly where bucket >= %(start)s and bucket < %(stop)s)
"""

_CREATE_PARTITION = "select read.create_partition('tracking_events_read_model', %s)"

_BOUND = "select pg_get_expr(relpartbound, oid) from pg_class where oid = %s::regclass"

# those of constraints first: dropping the constraint drops the index
_INDEXES = """
select indexrelid::regclass::text,
       case
           when conname is null then pg_get_indexdef(indexrelid)
           else format(
               'alter table %%s add constraint %%I %%s',
               indrelid::regclass,
               conname,
               pg_get_constraintdef(pg_constraint.oid)
           )
       end,
       conname
  from pg_index
  left join pg_constraint on conindid = indexrelid and conrelid = indrelid and contype in ('p', 'u')
 where indrelid = %s::regclass
 order by conname nulls last, indexrelid
"""

_ADD_SYSTEM = """
insert into read.partner_systems (id, partner_id, name, updated_at)
values (%s, %s, %s, now())
    on conflict do nothing
"""

_COPY_COUNTS = """
copy read.event_counts_hourly (partner_system_id, bucket, event_name, valid, invalid, bots_valid, bots_invalid, total)
from stdin
"""

_ADD_DAYS = """
insert into read.event_counts_daily
select partner_system_id, (bucket at time zone 'UTC')::date, event_name,
       sum(valid), sum(invalid), sum(bots_valid), sum(bots_invalid)
  from read.event_counts_hourly
 where partner_system_id = any(%(systems)s)
   and bucket >= %(start)s
   and bucket < %(stop)s
 group by 1, 2, 3
 order by 2, 1, 3
"""

# as if one group had changed each day
_RAISE_VERSIONS = """
insert into read.range_versions as known (partner_system_id, day, consumer, version)
select partner_system_id, (bucket at time zone 'UTC')::date, consumer, 1
  from read.event_counts_hourly
 cross join unnest(array['projector', 'statistics']) as named (consumer)
 where partner_system_id = any(%(systems)s)
   and bucket >= %(start)s
   and bucket < %(stop)s
 group by 1, 2, 3
 order by 1, 2, 3
    on conflict (partner_system_id, day, consumer)
    do update set version = known.version + 1
"""

_PROGRESS = """
insert into read.consumer_progress as known (consumer, applied_through, pending_batches, observed_at)
select consumer, now(), 0, now()
  from unnest(array['projector', 'statistics']) as named (consumer)
    on conflict (consumer) do nothing
"""

# hours and names whose counts are not those of the events
_WRONG_HOURS = """
select count(*)
  from (
        select partner_system_id,
               date_trunc('hour', event_timestamp at time zone 'UTC') at time zone 'UTC' as bucket,
               event_name,
               count(*) filter (where not is_bot) as total,
               count(*) filter (where is_valid and not is_bot) as valid,
               count(*) filter (where not is_valid and not is_bot) as invalid,
               count(*) filter (where is_valid and is_bot) as bots_valid,
               count(*) filter (where not is_valid and is_bot) as bots_invalid
          from read.tracking_events_read_model
         group by 1, 2, 3
       ) as recounted
  full join read.event_counts_hourly as kept using (partner_system_id, bucket, event_name)
 where (recounted.total, recounted.valid, recounted.invalid, recounted.bots_valid, recounted.bots_invalid)
       is distinct from (kept.total, kept.valid, kept.invalid, kept.bots_valid, kept.bots_invalid)
"""

_WRONG_DAYS = """
select count(*)
  from (
        select partner_system_id, (bucket at time zone 'UTC')::date as day, event_name, sum(valid) as valid,
               sum(invalid) as invalid, sum(bots_valid) as bots_valid, sum(bots_invalid) as bots_invalid
          from read.event_counts_hourly
         group by 1, 2, 3
       ) as summed
  full join read.event_counts_daily as kept using (partner_system_id, day, event_name)
 where (summed.valid, summed.invalid, summed.bots_valid, summed.bots_invalid)
       is distinct from (kept.valid, kept.invalid, kept.bots_valid, kept.bots_invalid)
"""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How long each part took, in seconds."""

    copy_s: float
    index_s: float
    vacuum_s: float


def bar() -> Progress:
    """For `load`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )


def load(url: str, year: Year, progress: Progress) -> Loaded:
    """Fill the read model behind `url`, which must be its owner's.

    Raises ValueError if it has events or counts of that year already; psycopg.Error leaves the months done so far.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute("set maintenance_work_mem = '512MB'")
        span = {"start": year.start, "stop": year.stop}
        if connection.execute(_IS_EMPTY, span).fetchone() != (True,):
            raise ValueError(f"the read model has events of {year.year} already")
        counts: Counts = {}
        copy_s = index_s = 0.0
        events = progress.add_task("events", total=year.events)
        for month in year.months:
            connection.execute(_CREATE_PARTITION, (month,))
            with _taken_out(connection, month) as indexes:
                started = time.perf_counter()
                counts |= _copy(connection, year, month, progress, events)
                copied = time.perf_counter()
                progress.update(events, description=f"indexes {month:%Y-%m}")
                for statement in indexes:
                    connection.execute(statement)
            copy_s += copied - started
            index_s += time.perf_counter() - copied
        progress.update(events, description="counts, vacuum")
        started = time.perf_counter()
        _fill_the_rest(connection, year, counts)
        progress.update(events, description="events")
        return Loaded(copy_s, index_s, time.perf_counter() - started)


@contextmanager
def _taken_out(connection: Connection, month: date) -> Any:
    """Yields the statements that make the indexes again, which the caller must have run when it is done."""
    parent = sql.Identifier("read", TABLE)
    name = f"{TABLE}_{month:%Y_%m}"
    child = sql.Identifier("read", name)
    (bound,) = connection.execute(_BOUND, (f"read.{name}",)).fetchone() or (None,)
    indexes = connection.execute(_INDEXES, (f"read.{name}",)).fetchall()
    connection.execute(sql.SQL("alter table {} detach partition {}").format(parent, child))
    for index, _, constraint in indexes:
        if constraint:
            connection.execute(sql.SQL("alter table {} drop constraint {}").format(child, sql.Identifier(constraint)))
        else:
            connection.execute(sql.SQL("drop index {}").format(sql.Identifier(*index.split("."))))
    yield [definition for _, definition, _ in indexes]
    connection.execute(sql.SQL("alter table {} attach partition {} {}").format(parent, child, sql.SQL(bound)))


def _copy(connection: Connection, year: Year, month: date, progress: Progress, task: Any) -> Counts:
    progress.update(task, description=f"copy {month:%Y-%m}")
    made = year.month(month)
    child = sql.Identifier("read", f"{TABLE}_{month:%Y_%m}")
    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("copy {} ({}) from stdin (format binary, freeze)").format(child, columns)
    with connection.transaction(), connection.cursor() as cursor:
        # frozen rows need no second visit, but only of a table that nobody else can have seen before
        cursor.execute(sql.SQL("truncate {}").format(child))
        with cursor.copy(statement) as copy:
            copy.write(COPY_SIGNATURE)
            for number, rows in made.blocks():
                copy.write(rows)
                progress.advance(task, number)
            copy.write(COPY_TRAILER)
    return made.counts


def _fill_the_rest(connection: Connection, year: Year, counts: Counts) -> None:
    for system_id, name in zip(year.system_ids, SYSTEM_NAMES, strict=True):
        connection.execute(_ADD_SYSTEM, (system_id, year.partner_id, name))
    with connection.cursor() as cursor, cursor.copy(_COPY_COUNTS) as copy:
        # in the order of time, as they come into being, not in that of the key
        for hour, system, number in sorted({(hour, system, number) for system, hour, number, _ in counts}):
            of_kinds = [counts.get((system, hour, number, kind), 0) for kind in range(len(COUNT_KINDS))]
            bucket = datetime.fromtimestamp(hour * 3600, UTC)
            copy.write_row((year.system_ids[system], bucket, NAMES[number], *of_kinds, of_kinds[0] + of_kinds[1]))
    span = {"start": year.start, "stop": year.stop}
    connection.execute(_ADD_DAYS, {"systems": list(year.system_ids), **span})
    connection.execute(_RAISE_VERSIONS, {"systems": list(year.system_ids), **span})
    connection.execute(_PROGRESS)
    for table in (TABLE, *_COUNTS, "range_versions", "partner_systems", "consumer_progress"):
        connection.execute(sql.SQL("vacuum (analyze) {}").format(sql.Identifier("read", table)))


def check(url: str, year: Year) -> None:
    """AssertionError unless each event is there once and the counts are those of the events; nothing else may be."""
    with psycopg.connect(url) as connection:
        (number,) = connection.execute("select count(*) from read.tracking_events_read_model").fetchone() or (0,)
        (wrong_hours,) = connection.execute(_WRONG_HOURS).fetchone() or (0,)
        (wrong_days,) = connection.execute(_WRONG_DAYS).fetchone() or (0,)
    assert number == year.events, f"{year.events} made, {number} there"
    assert wrong_hours == 0, f"{wrong_hours} counts by hour are not those of the events"
    assert wrong_days == 0, f"{wrong_days} counts by day are not the sums of their hours"


def main(arguments: Sequence[str] | None = None) -> int:
    """Load, recount, say how fast it was."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.loader", description=__doc__)
    parser.add_argument("--url", required=True, help="of the read database, as its owner")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--year", type=int, default=2025)
    given = parser.parse_args(arguments)
    year = Year(given.events, given.seed, given.year)
    with bar() as progress:
        loaded = load(given.url, year, progress)
    check(given.url, year)
    print(
        f"{year.events:,} events of {PARTNER_NAME}: COPY {loaded.copy_s:.1f} s ({year.events / loaded.copy_s:,.0f}/s), "
        f"indexes {loaded.index_s:.1f} s, counts and vacuum {loaded.vacuum_s:.1f} s; recounted"
    )
    for system_id, name in zip(year.system_ids, SYSTEM_NAMES, strict=True):
        print(f"  {system_id} {name}")
    return 0
