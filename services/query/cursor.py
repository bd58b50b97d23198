"""Positions within a list of events or of event names, and the opaque cursors that stand for them."""

import base64
import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Self
from uuid import UUID

from services.query.time_range import STEP, TimeRange
from tracking.domain.errors import Malformed

DIGEST_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# count, start and end of the range, digest of the question; the name follows
_NAME_LAYOUT = struct.Struct(f">qqq{DIGEST_BYTES}s")
# time and id of the last event, start and end of the range, digest of the question
_LAYOUT = struct.Struct(f">q16sqq{DIGEST_BYTES}s")


@dataclass(frozen=True, slots=True)
class PagePosition:
    """The events of `within` that follow the one of `last_at` with `last_id`, newest first or oldest first."""

    within: TimeRange
    last_at: datetime
    last_id: UUID
    is_oldest_first: bool = False

    @classmethod
    def at_start(cls, within: TimeRange, *, is_oldest_first: bool = False) -> Self:
        """All of the range; no event has the highest or the lowest id, as none of its versions does."""
        if is_oldest_first:
            return cls(within, within.start, UUID(int=0), is_oldest_first)
        return cls(within, within.end, UUID(int=2**128 - 1))

    def get_rest(self) -> TimeRange:
        """The part of the range in which the events that follow are."""
        if self.is_oldest_first:
            return TimeRange(max(self.last_at, self.within.start), self.within.end)
        return TimeRange(self.within.start, min(self.last_at, self.within.end))


def encode_cursor(position: PagePosition, digest: bytes) -> str:
    """The cursor of a position in the answer to the question with this digest of DIGEST_BYTES."""
    moments = (position.last_at, position.within.start, position.within.end)
    last_at, start, end = ((at - _EPOCH) // STEP for at in moments)
    packed = _LAYOUT.pack(last_at, position.last_id.bytes, start, end, digest)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_cursor(cursor: str, digest: bytes, *, is_oldest_first: bool = False) -> PagePosition:
    """The position that was encoded, in the order of the question.

    Raises Malformed for a text that is no cursor, or that of another question.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        last_at, event_id, start, end, of_question = _LAYOUT.unpack(base64.b64decode(padded, b"-_", validate=True))
        within = TimeRange(_EPOCH + start * STEP, _EPOCH + end * STEP)
        position = PagePosition(within, _EPOCH + last_at * STEP, UUID(bytes=event_id), is_oldest_first)
    except (ValueError, OverflowError, struct.error) as error:
        raise _malformed("is not one of ours") from error
    if not compare_digest(of_question, digest):
        raise _malformed("belongs to other filters or another system")
    return position


@dataclass(frozen=True, slots=True)
class NamePosition:
    """The event names of `within` behind one with `count` events: those with fewer, and later names with as many."""

    within: TimeRange
    count: int
    name: str


def encode_name_cursor(position: NamePosition, digest: bytes) -> str:
    """The cursor of a position among event names."""
    start, end = ((at - _EPOCH) // STEP for at in (position.within.start, position.within.end))
    packed = _NAME_LAYOUT.pack(position.count, start, end, digest) + position.name.encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_name_cursor(cursor: str, digest: bytes) -> NamePosition:
    """The position that was encoded. Raises Malformed for a text that is no cursor, or that of another question."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        packed = base64.b64decode(padded, b"-_", validate=True)
        count, start, end, of_question = _NAME_LAYOUT.unpack_from(packed)
        name = packed[_NAME_LAYOUT.size :].decode()
        within = TimeRange(_EPOCH + start * STEP, _EPOCH + end * STEP)
    except (ValueError, OverflowError, struct.error) as error:
        raise _malformed("is not one of ours") from error
    if not compare_digest(of_question, digest) or "\x00" in name:
        raise _malformed("belongs to another question")
    return NamePosition(within, count, name)


def _malformed(message: str) -> Malformed:
    return Malformed("invalid_cursor", f"cursor: {message}.", [{"field": "cursor", "message": message}])
