"""The bytes of an event on the disk, for the tables and for each index, from the sizes that PostgreSQL reports."""

from collections.abc import Sequence

import psycopg

# of a partitioned table: its partitions' heaps with TOAST and maps, and each index over all partitions
_PARTS = """
with partitions as (
    select relid
      from pg_partition_tree(%(table)s::regclass)
     where isleaf
    union all
    select oid
      from pg_class
     where oid = %(table)s::regclass
       and relkind = 'r'
       and not relispartition
)
select 'rows' as part, sum(pg_table_size(relid))::bigint as bytes
  from partitions
union all
(
    select coalesce(of_parent.inhparent, pg_index.indexrelid)::regclass::text, sum(pg_relation_size(indexrelid))::bigint
      from partitions
      join pg_index on indrelid = relid
      left join pg_inherits as of_parent on of_parent.inhrelid = indexrelid
     group by 1
     order by 2 desc
)
"""


def of_table(url: str, table: str, events: int) -> str:
    """`table: 912 B an event: rows 480, id_idx 32, …`; `table` with its schema."""
    with psycopg.connect(url) as connection:
        parts = connection.execute(_PARTS, {"table": table}).fetchall()
    name = table.partition(".")[2]
    shown = ", ".join(f"{_short(part, name)} {bytes_ / events:.1f}" for part, bytes_ in parts)
    return f"{name} {sum(bytes_ for _, bytes_ in parts) / events:.0f} B an event: {shown}"


def _short(index: str, table: str) -> str:
    return index.rpartition(".")[2].removeprefix(f"{table}_")


def of_read_model(url: str, events: int) -> Sequence[str]:
    """A line for the events and one for their counts."""
    tables = (
        "read.tracking_events_read_model",
        "read.event_counts_hourly",
        "read.event_counts_daily",
        "read.range_versions",
    )
    return [of_table(url, table, events) for table in tables]
