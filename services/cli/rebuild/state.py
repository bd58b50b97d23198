"""The state of each rebuild (`read.rebuilds`), which lets another process continue a rebuild that was killed."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Literal
from uuid import UUID, uuid4

import asyncpg

from tracking.domain.ids import get_previous_id, make_lowest_id
from tracking.infra.postgres import Connection
from tracking.tables import event_batches
from tracking.tables.partitions import PARTITIONED_TABLES, list_months_between

_NONE = UUID(int=0)
_LOCK_ATTEMPTS = 5
_LOCK_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class ReceivedRange:
    """The range of receive times of batches: from `from_time`, before `to_time`; None means no bound."""

    from_time: datetime | None
    to_time: datetime | None

    @property
    def is_everything(self) -> bool:
        """Whether the range includes every batch."""
        return self.from_time is None and self.to_time is None

    def __str__(self) -> str:
        if self.is_everything:
            return "everything"
        first = "the first batch" if self.from_time is None else self.from_time.isoformat()
        last = "the last batch" if self.to_time is None else self.to_time.isoformat()
        return f"from {first} to {last}"


@dataclass(frozen=True, slots=True)
class RebuildState:
    """A row of `read.rebuilds`. Each counter is increased in the transaction whose work it counts."""

    from_time: datetime | None
    to_time: datetime | None
    deletes_strays: bool
    position: UUID
    through: UUID
    total_batches: int
    phase: Literal["links", "batches", "hours", "done", "given up"] = "batches"
    done_batches: int = 0
    done_events: int = 0
    repaired_events: int = 0
    missing_events: int = 0
    failed_batches: Sequence[UUID] = ()
    total_hours: int = 0
    done_hours: int = 0
    repaired_counts: int = 0
    deleted_strays: int = 0
    repaired_links: int = 0
    deleted_links: int = 0
    id: UUID = field(default_factory=uuid4)
    checked_links: int = 0
    """By this process: they are all checked again if it does not get to their end."""

    @property
    def range(self) -> ReceivedRange:
        """The range that was asked for."""
        return ReceivedRange(self.from_time, self.to_time)


_SELECT_UNFINISHED = """
select from_time, to_time, deletes_strays, position, through, total_batches, phase, done_batches, done_events,
       repaired_events, missing_events, failed_batches, total_hours, done_hours, repaired_counts, deleted_strays,
       repaired_links, deleted_links, id
  from read.rebuilds
 where phase in ('links', 'batches', 'hours')
 order by started_at desc
 limit 1
"""


async def find_unfinished(read: Connection) -> RebuildState | None:
    """Return the rebuild that was interrupted."""
    row = await read.fetchrow(_SELECT_UNFINISHED)
    return RebuildState(*row.values()) if row else None


_INSERT_REBUILD = """
insert into read.rebuilds (id, from_time, to_time, deletes_strays, phase, position, through, total_batches)
values ($1, $2, $3, $4, $5, $6, $7, $8)
"""

_UPDATE_OTHERS_GIVEN_UP = """
update read.rebuilds
   set phase = 'given up', updated_at = now()
 where phase in ('links', 'batches', 'hours')
"""


async def start_rebuild(
    read: Connection, write: Connection, within: ReceivedRange, deletes_strays: bool
) -> RebuildState:
    """Start a rebuild of the batches of the range that are committed now.

    An unfinished rebuild is marked as given up; the hours that it had not compared stay queued and are compared by this
    one.
    """
    before = _NONE if within.from_time is None else get_previous_id(make_lowest_id(within.from_time))
    rebuild = RebuildState(within.from_time, within.to_time, deletes_strays, before, through=before, total_batches=0)
    rebuild = replace(await extend_to_latest(write, rebuild), phase="links" if within.is_everything else "batches")
    async with read.transaction():
        await read.execute(_UPDATE_OTHERS_GIVEN_UP)
        await read.execute(
            _INSERT_REBUILD,
            rebuild.id,
            rebuild.from_time,
            rebuild.to_time,
            rebuild.deletes_strays,
            rebuild.phase,
            rebuild.position,
            rebuild.through,
            rebuild.total_batches,
        )
    return rebuild


async def extend_to_latest(write: Connection, rebuild: RebuildState) -> RebuildState:
    """Return the rebuild extended to the last batch of its range that is committed now."""
    last = UUID(int=(1 << 128) - 1) if rebuild.to_time is None else get_previous_id(make_lowest_id(rebuild.to_time))
    through = await event_batches.find_last_id(write, last) or _NONE
    total = await event_batches.count_between(write, rebuild.position, through)
    return replace(rebuild, through=through, total_batches=total)


_UPDATE_REBUILD = """
update read.rebuilds
   set phase = $2,
       position = $3,
       done_batches = $4,
       done_events = $5,
       repaired_events = $6,
       missing_events = $7,
       failed_batches = $8,
       total_hours = $9,
       done_hours = $10,
       repaired_counts = $11,
       deleted_strays = $12,
       repaired_links = $13,
       deleted_links = $14,
       through = $15,
       total_batches = $16,
       updated_at = now()
 where id = $1
"""


async def save(read: Connection, rebuild: RebuildState) -> None:
    """Save the state inside the transaction whose work it counts."""
    await read.execute(
        _UPDATE_REBUILD,
        rebuild.id,
        rebuild.phase,
        rebuild.position,
        rebuild.done_batches,
        rebuild.done_events,
        rebuild.repaired_events,
        rebuild.missing_events,
        rebuild.failed_batches,
        rebuild.total_hours,
        rebuild.done_hours,
        rebuild.repaired_counts,
        rebuild.deleted_strays,
        rebuild.repaired_links,
        rebuild.deleted_links,
        rebuild.through,
        rebuild.total_batches,
    )


_CREATE_PARTITION = "select read.create_partition($1, $2)"


async def create_partitions(read: Connection, write: Connection, rebuild: RebuildState) -> None:
    """Create the partitions of the months in which the batches were received.

    An empty read database has only the latest ones. A month whose lock is not free, as during a dump, is left to the
    relay, which moves its rows out of the default partition.
    """
    first = await event_batches.find_first_time(write, rebuild.position, rebuild.through)
    if first is None:
        return
    last = datetime.fromtimestamp((rebuild.through.int >> 80) / 1000, first.tzinfo)
    for month in list_months_between(first, last):
        for parent in PARTITIONED_TABLES["read"]:
            await _create_partition(read, parent, month)


async def _create_partition(read: Connection, parent: str, month: date) -> None:
    for _ in range(_LOCK_ATTEMPTS):
        with contextlib.suppress(asyncpg.LockNotAvailableError):
            await read.execute(_CREATE_PARTITION, parent, month)
            return
        await asyncio.sleep(_LOCK_INTERVAL_S)
