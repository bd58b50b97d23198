"""Drops what is older than the retention: months whole, and rows outside the months in pages.

First the time from which on events are complete is announced. From then on gateways reject events from before it, and
query does not show them. They are dropped when every gateway has heard of it and every batch committed until then is
applied, so no event is lost on its way, and no repeat of a dropped event comes in as a new one.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from services.relay.upkeep import Upkeep
from tracking.contracts import topology
from tracking.tables import consumer_progress, retention
from tracking.tables.dead_letters import delivery
from tracking.tables.partitions import list_months_around
from tracking.tables.rejected_events import delete_rejected_events_older_than

_log = logging.getLogger(__name__)

_MAX_AGE_OF_REJECTED_EVENTS = timedelta(days=30)
_MAX_AGE_OF_CLOSED_DEAD_LETTERS = timedelta(days=90)
_PAGE_ROWS = 2_000
_FIRST = UUID(int=0)

_DROP = {"write": "select write.drop_partition($1, $2)", "read": "select read.drop_partition($1, $2)"}
_ADVANCE_WRITE = "select write.advance_raw_since($1)"
_ADVANCE_READ = "select read.advance_retention($1, $2)"
_SELECT_EXPIRED_UNDATED = "select * from write.expire_undated($1, $2, $3)"
_SELECT_EXPIRED_LINKS = "select * from read.expire_links($1, $2, $3, $4)"
_EXPIRE_DEFAULT = {"write": "select write.expire_default($1)", "read": "select read.expire_default($1)"}
_EXPIRE_COUNTS = "select read.expire_counts($1, $2)"
_SELECT_SYSTEMS = "select id from read.partner_systems order by id"


@dataclass(frozen=True, slots=True)
class RetentionOptions:
    """How many months before the present one events and counts are kept; None: for ever."""

    months: int | None
    counts_months: int | None
    delay: timedelta
    """From announcing to dropping."""


@dataclass(slots=True)
class RetentionMaintainer:
    """Drops from both databases."""

    upkeep: Upkeep
    options: RetentionOptions
    _counts_expired_through: datetime | None = None

    async def expire(self) -> None:
        """Announce and drop what is due. Raises NotLeading and postgres.TRANSIENT_ERRORS."""
        write, now = self.upkeep.write, datetime.now(UTC)
        await delete_rejected_events_older_than(write, _MAX_AGE_OF_REJECTED_EVENTS)
        await delivery.delete_closed(write, now - _MAX_AGE_OF_CLOSED_DEAD_LETTERS)
        announced = await self._announce(now.date())
        if announced is not None and await self._is_due(announced.at, now):
            await self._drop_months(announced.raw_since.date())
            if announced.expired_through != announced.raw_since:
                await self._expire_rows(announced.raw_since)
        await self._expire_counts()

    async def _announce(self, today: date) -> retention.Announcement | None:
        if self.options.months is not None:
            oldest = list_months_around(today, self.options.months, 0)[0]
            await self.upkeep.fetch_value("write", _ADVANCE_WRITE, oldest)
        announced = await retention.find_announcement(self.upkeep.write)
        raw_since = None if announced is None else announced.raw_since.date()
        months = self.options.counts_months
        counts_since = None if months is None else list_months_around(today, months, 0)[0]
        if raw_since is not None or counts_since is not None:
            await self.upkeep.fetch_value("read", _ADVANCE_READ, raw_since, counts_since)
        return announced

    async def _is_due(self, announced_at: datetime, now: datetime) -> bool:
        """Whether all gateways know, and everything that one of them took before is applied."""
        known_at = announced_at + self.options.delay
        if now < known_at:
            return False
        applied_through = await consumer_progress.read_watermark(self.upkeep.read, topology.CONSUMERS)
        return applied_through is not None and applied_through >= known_at

    async def _drop_months(self, kept_since: date) -> None:
        for parent in ("tracking_events", "event_batches"):
            await self._drop("write", parent, kept_since)
        await self._drop("read", "tracking_events_read_model", kept_since)
        # a batch that is still there would be applied again without its row in the inbox
        batches = await self.upkeep.list_months("write", "event_batches")
        await self._drop("read", "applied_batches", min([kept_since, *batches]))

    async def _drop(self, schema: str, parent: str, kept_since: date) -> None:
        for month in await self.upkeep.list_months(schema, parent):
            if month < kept_since:
                await self._drop_month(schema, parent, month)

    async def _drop_month(self, schema: str, parent: str, month: date) -> None:
        async def drop() -> None:
            if await self.upkeep.try_often(schema, _DROP[schema], parent, month):
                _log.warning("retention dropped %s.%s of %s", schema, parent, month.strftime("%Y-%m"))

        await self.upkeep.do_or_postpone(schema, parent, month, drop)

    async def _expire_rows(self, raw_since: datetime) -> None:
        """Expire the rows that are in no month, and links whose ids have no events any more."""
        undated = await self._walk("write", _SELECT_EXPIRED_UNDATED, (_FIRST, _FIRST))
        links = await self._walk("read", _SELECT_EXPIRED_LINKS, (_FIRST, "", ""))
        others = [await self._repeat(schema, statement) for schema, statement in _EXPIRE_DEFAULT.items()]
        await retention.save_expired_through(self.upkeep.write, raw_since)
        if undated or links or any(others):
            _log.warning("retention dropped %d rows outside the months and %d links", undated + sum(others), links)

    async def _walk(self, schema: str, statement: str, first: Sequence[Any]) -> int:
        """Run the statement page by page; it returns the key it came to, null at the end, and how many it expired."""
        position: Sequence[Any] = first
        expired = 0
        while True:
            *last, count = await self.upkeep.fetch_row(schema, statement, *position, _PAGE_ROWS)
            expired += int(count)
            if last[0] is None:
                return expired
            position = last

    async def _repeat(self, schema: str, statement: str, *arguments: object) -> int:
        """Run the statement until it expires nothing any more."""
        expired = 0
        while count := await self.upkeep.fetch_value(schema, statement, *arguments, _PAGE_ROWS):
            expired += int(count)
        return expired

    async def _expire_counts(self) -> None:
        limits = await retention.read_limits(self.upkeep.read)
        if limits.counts_since is None or limits.counts_since == self._counts_expired_through:
            return
        for row in await self.upkeep.read.fetch(_SELECT_SYSTEMS):
            await self._repeat("read", _EXPIRE_COUNTS, row["id"])
        self._counts_expired_through = limits.counts_since
