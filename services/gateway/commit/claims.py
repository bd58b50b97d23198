"""The claims of a micro-batch beside its events: Idempotency-Keys, and the places that earlier versions gave."""

from collections.abc import Collection, Mapping, Sequence, Set
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from tracking.domain.idempotency_key import IdempotencyKey
from tracking.domain.ids import derive_dated_id, get_usable_unix_ms, is_named_id
from tracking.domain.timestamps import to_unix_ms
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra.postgres import Connection

NO_IDS: Mapping[UUID, UUID] = {}
_NO_KEYS: Set[IdempotencyKey] = frozenset()


class CommitOutcome(NamedTuple):
    """The outcome of a micro-batch.

    `stored` holds the ids of the new events; None means that all are new. `earlier` has the id of each event that a
    version before named ids stored already, by the id that it would have now. No event of a request alone whose key is
    in `conflicting` was stored.
    """

    stored: frozenset[UUID] | None
    earlier: Mapping[UUID, UUID] = NO_IDS
    conflicting: Set[IdempotencyKey] = _NO_KEYS


class KeyClaims(NamedTuple):
    """The Idempotency-Keys of a micro-batch, and for the id of each event those of the requests that contain it.

    None stands for a request without a key.
    """

    keys: Collection[IdempotencyKey]
    claimants: Mapping[UUID, Collection[IdempotencyKey | None]]

    def drop_conflicting(
        self, events: Sequence[TrackingEvent], conflicting: Set[IdempotencyKey]
    ) -> Sequence[TrackingEvent]:
        """Return the events that at least one request may store."""
        return [event for event in events if any(key not in conflicting for key in self.claimants[event.id])]


_SELECT_SINCE = "select max(since) from write.named_ids_since"
# A single row of the lateral query keeps the planner from reading whole partitions.
_SELECT_EARLIER = """
select given.named_id, earlier.id
  from unnest($1::uuid[], $2::uuid[], $3::uuid[]) as given (partner_system_id, named_id, id)
 cross join lateral (
        select stored.id
          from write.tracking_events as stored
         where stored.partner_system_id = given.partner_system_id
           and stored.id = given.id
         limit 1
       ) as earlier
"""
# A client's clock further ahead than this when an earlier version stored its event is not allowed for.
_CLOCK_AHEAD = timedelta(days=1)


class EarlierPlaces:
    """Finds named events that a version before named ids has stored, under an id that depends on their timestamp.

    Nothing is looked up in a database that was new then, and for events whose timestamp is later than that version.
    """

    def __init__(self) -> None:
        self._before_ms: int | None = None

    async def prepare(self, connection: Connection) -> None:
        """Read once since when names have places of their own. Raises postgres.POSTGRES_ERRORS."""
        if self._before_ms is None:
            since: datetime | None = await connection.fetchval(_SELECT_SINCE)
            self._before_ms = 0 if since is None else to_unix_ms(since + _CLOCK_AHEAD)

    @property
    def may_exist(self) -> bool:
        """Whether the database has events of such a version."""
        return bool(self._before_ms)

    async def find(self, connection: Connection, events: Sequence[TrackingEvent]) -> Mapping[UUID, UUID]:
        """Return the ids under which events are stored already, by their own. Raises postgres.POSTGRES_ERRORS."""
        before_ms = self._before_ms or 0
        candidates = [
            (event.partner_system_id, event.id, derive_dated_id(event.partner_system_id, event.message_id, at))
            for event in events
            if event.message_id is not None
            and is_named_id(event.id)
            and get_usable_unix_ms(at := event.original_timestamp) < before_ms
        ]
        if not candidates:
            return NO_IDS
        rows = await connection.fetch(_SELECT_EARLIER, *zip(*candidates, strict=True))
        # asyncpg's own class of UUIDs is not JSON
        return {UUID(int=named_id.int): UUID(int=earlier_id.int) for named_id, earlier_id in rows}
