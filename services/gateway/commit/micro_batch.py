"""Micro-batches: the events of some requests that share a transaction, and the result of each event."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import compress, islice
from operator import attrgetter
from types import MappingProxyType
from uuid import UUID

from services.gateway.commit.claims import CommitOutcome, KeyClaims
from tracking.contracts.events_tracked import HasSystemContext, count_bytes
from tracking.domain.errors import Unavailable, Unprocessable
from tracking.domain.idempotency_key import IdempotencyKey
from tracking.domain.tracking_event import TrackingEvent
from tracking.infra import metrics

MAX_MESSAGE_EVENTS = 1_000
# A message of several events is at most this large, counted as `count_bytes` does: with the escaping of JSON at most
# 1.5 MiB, far below the 16 MiB that RabbitMQ 4 takes.
MAX_MESSAGE_BYTES = 256 * 1024
# Size of the names and ids of a partner system in a message, without its two names.
_SYSTEM_BYTES = 180
_NO_DUPLICATES: Set[int] = frozenset()
_NO_REJECTIONS: Mapping[int, str] = MappingProxyType({})

EventKey = tuple[int, int]
"""The primary key of an event as numbers, which are hashed and compared faster than UUIDs: its id, then its system."""
get_event_key: Callable[[TrackingEvent], EventKey] = attrgetter("id.int", "partner_system_id.int")


class CommitResult:
    """The result of submitted events by their position in the request: duplicates, and rejected events with the reason.

    Every other position was stored, unless `failure` is set, which means that at least one event could not be stored
    now and the sender has to repeat the request, or that its Idempotency-Key was used for another request.
    """

    __slots__ = ("_duplicates", "_earlier_ids", "_rejected", "failure", "idempotency_key")

    def __init__(self, idempotency_key: IdempotencyKey | None = None) -> None:
        self.idempotency_key = idempotency_key
        # Each is created at its first entry, because nearly every request has none.
        self._duplicates: set[int] | None = None
        self._rejected: dict[int, str] | None = None
        self._earlier_ids: dict[int, UUID] | None = None
        self.failure: Unavailable | Unprocessable | None = None

    @property
    def duplicates(self) -> Set[int]:
        """The positions of the events that were stored before."""
        return self._duplicates or _NO_DUPLICATES

    @property
    def rejected(self) -> Mapping[int, str]:
        """The positions of the events that can never be stored, with the reasons."""
        return self._rejected or _NO_REJECTIONS

    def get_event_id(self, position: int, event: TrackingEvent) -> UUID:
        """Return the id under which the event at the position is stored."""
        return event.id if self._earlier_ids is None else self._earlier_ids.get(position, event.id)

    def add_duplicate(self, position: int, earlier_id: UUID | None = None) -> None:
        """Record that the event at the position was stored before; `earlier_id` is that of an earlier version."""
        if self._duplicates is None:
            self._duplicates = set()
        self._duplicates.add(position)
        if earlier_id is not None:
            self._earlier_ids = (self._earlier_ids or {}) | {position: earlier_id}

    def add_conflict(self) -> None:
        """Record that the request's Idempotency-Key was used before with another body."""
        self.failure = Unprocessable(
            "idempotency_key_reused", "This Idempotency-Key was used before for a request with another body."
        )

    def add_rejected(self, position: int, reason: str) -> None:
        """Record that the event at the position can never be stored."""
        if self._rejected is None:
            self._rejected = {}
        self._rejected[position] = reason


OnCommitted = Callable[[CommitResult, BaseException | None], None]


@dataclass(slots=True, eq=False)
class Share:
    """The part of the capacity that one partner system holds: its events that wait or are being committed."""

    number: int
    events: int = 0
    size_bytes: int = 0
    waiting: deque["PendingEvents"] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class PendingEvents:
    """Events of one request from position `first` on, as many as fit a message; `deadline` is by time.monotonic."""

    events: Sequence[TrackingEvent]
    first: int
    system: HasSystemContext
    size_bytes: int
    deadline: float
    result: CommitResult
    on_done: OnCommitted
    share: Share


class KeyedGroup:
    """Keeps requests with a common event apart as soon as one of them has an Idempotency-Key.

    The request may be refused, and then its version of the event must not be stored in the name of the other.
    """

    def __init__(self) -> None:
        self._ids: set[UUID] = set()
        self._seen = 0

    def admits(self, group: Sequence[PendingEvents], other: PendingEvents) -> bool:
        """Return whether `other` may be added to the group, to which requests have only been added since last time."""
        for pending in islice(group, self._seen, None):
            self._ids.update(event.id for event in pending.events)
        self._seen = len(group)
        return self._ids.isdisjoint(event.id for event in other.events)


class MicroBatch:
    """The distinct events of a group of requests, and where each stood in its request (made when it is asked for).

    Events with ids that a client made are in the order of their keys, in every gateway. Two gateways that store the
    same events therefore wait for each other in one direction only, and never end in a deadlock.
    """

    def __init__(self, group: Sequence[PendingEvents]) -> None:
        # A number is hashed faster than a UUID.
        self.systems = list({pending.system.partner_system_id.int: pending.system for pending in group}.values())
        self.events: Sequence[TrackingEvent] = [event for pending in group for event in pending.events]
        self._group = group
        self._owners: list[list[tuple[CommitResult, int]]] | None = None
        # Only an id that a client made can occur twice.
        if any(event.message_id is not None for event in self.events):
            self._merge_repeats()
        has_keys = any(pending.result.idempotency_key for pending in group)
        self.claims: KeyClaims | None = self._make_claims() if has_keys else None

    def _merge_repeats(self) -> None:
        events, owners = self.events, self.get_owners()
        keys = list(map(get_event_key, events))
        distinct: list[int] = []
        last: EventKey | None = None
        for row in sorted(range(len(keys)), key=keys.__getitem__):
            if keys[row] == last:
                owners[distinct[-1]] += owners[row]
            else:
                distinct.append(row)
                last = keys[row]
        self.events, self._owners = [events[row] for row in distinct], [owners[row] for row in distinct]

    def _make_claims(self) -> KeyClaims | None:
        claimants = {
            event.id: {result.idempotency_key for result, _ in owners}
            for event, owners in zip(self.events, self.get_owners(), strict=True)
        }
        keys = {key for keys in claimants.values() for key in keys if key is not None}
        return KeyClaims(keys, claimants) if keys else None

    def get_owners(self) -> list[list[tuple[CommitResult, int]]]:
        """For each event, return the result of its request and its position there; more than one for a repeated one."""
        if self._owners is None:
            self._owners = [
                [(pending.result, position)]
                for pending in self._group
                for position in range(pending.first, pending.first + len(pending.events))
            ]
        return self._owners

    def mark_outcome(self, outcome: CommitOutcome) -> Sequence[TrackingEvent]:
        """Record duplicates and conflicts in their requests' results, and return the events that are new."""
        stored = outcome.stored
        if stored is None and self._owners is None:
            return self.events
        fresh: list[TrackingEvent] = []
        duplicates = 0
        for event, owners in zip(self.events, self.get_owners(), strict=True):
            is_new = stored is None or event.id in stored
            if is_new:
                fresh.append(event)
            if outcome.conflicting:
                owners = _mark_conflicts(owners, outcome.conflicting)
            for result, position in owners[1:] if is_new else owners:
                result.add_duplicate(position, outcome.earlier.get(event.id))
                duplicates += 1
        metrics.events_duplicate.inc(duplicates)
        return fresh

    def mark_rejected(self, reason: str) -> None:
        """Record that these rows can never be stored."""
        for owners in self.get_owners():
            for result, position in owners:
                result.add_rejected(position, reason)

    def mark_unavailable(self) -> None:
        """Record that these rows are not known to be stored and that the sender may repeat them."""
        for owners in self.get_owners():
            for result, _ in owners:
                result.failure = Unavailable("database_unavailable", "The event could not be stored now; try again.", 2)

    def split(self) -> "list[MicroBatch]":
        """Split the micro-batch into two parts that can be committed independently."""
        middle = len(self.events) // 2
        owners = self.get_owners()
        return [self._make_part(self.events[part], owners[part]) for part in (slice(0, middle), slice(middle, None))]

    def take_out(self, rows: Iterable[int]) -> "MicroBatch":
        """Remove all events of the requests that these rows belong to, and return them as another micro-batch."""
        owners = self.get_owners()
        requests = {id(result) for row in rows for result, _ in owners[row]}
        is_taken = [any(id(result) in requests for result, _ in owned) for owned in owners]
        is_left = [not taken for taken in is_taken]
        taken = self._make_part(list(compress(self.events, is_taken)), list(compress(owners, is_taken)))
        self.events, self._owners = list(compress(self.events, is_left)), list(compress(owners, is_left))
        self.claims = self._make_claims() if self.claims is not None else None
        return taken

    @staticmethod
    def join(parts: "Sequence[MicroBatch]") -> "MicroBatch":
        """Return the rows of parts that were taken out, as one micro-batch in the order of their keys."""
        rows = [row for part in parts for row in zip(part.events, part.get_owners(), strict=True)]
        rows.sort(key=lambda row: get_event_key(row[0]))
        joined = MicroBatch(())
        joined.events, joined._owners = [event for event, _ in rows], [owners for _, owners in rows]
        joined.systems = list({s.partner_system_id.int: s for part in parts for s in part.systems}.values())
        joined.claims = joined._make_claims() if any(part.claims for part in parts) else None
        return joined

    def _make_part(
        self, events: Sequence[TrackingEvent], owners: "list[list[tuple[CommitResult, int]]]"
    ) -> "MicroBatch":
        part = MicroBatch(())
        part.events, part._owners, part.systems = events, owners, self.systems
        part.claims = part._make_claims() if self.claims is not None else None
        return part


def _mark_conflicts(
    owners: Sequence[tuple[CommitResult, int]], conflicting: Set[IdempotencyKey]
) -> list[tuple[CommitResult, int]]:
    """Record the conflicts of the requests with these keys, and return the owners among the others."""
    others = []
    for result, position in owners:
        if result.idempotency_key in conflicting:
            result.add_conflict()
        else:
            others.append((result, position))
    return others


def split_into_messages(events: Sequence[TrackingEvent]) -> Iterator[tuple[int, Sequence[TrackingEvent], int]]:
    """Split events into parts that fit a message each: the position of its first event, its events, its bytes."""
    first = size = 0
    for position, event in enumerate(events):
        event_size = count_bytes(event)
        if position > first and (position - first >= MAX_MESSAGE_EVENTS or size + event_size > MAX_MESSAGE_BYTES):
            yield first, events[first:position], size
            first, size = position, 0
        size += event_size
    yield first, events[first:] if first else events, size


def count_system_bytes(system: HasSystemContext) -> int:
    """Return how many bytes the names of a partner system take in a message, without the escaping of JSON."""
    return _SYSTEM_BYTES + len(system.system_name.encode()) + len(system.partner_name.encode())
