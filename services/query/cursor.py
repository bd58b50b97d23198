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
# time and id of the last event, start and end of the range, digest of the question
# count, start and end of the range, digest of the question; the name follows
_NAME_LAYOUT = struct.Struct(f">qqq{DIGEST_BYTES}s")
_LAYOUT = struct.Struct(f">q16sqq{DIGEST_BYTES}s")


@dataclass(frozen=True, slots=True)
class PagePosition:
    """The events of `within` whose (time, id) is less than (`before`, `before_id`)."""

    within: TimeRange
    before: datetime
    before_id: UUID

    @classmethod
    def at_start(cls, within: TimeRange) -> Self:
        """All of the range; no event has the highest id, as none of its versions does."""
        return cls(within, within.end, UUID(int=2**128 - 1))


def encode_cursor(position: PagePosition, digest: bytes) -> str:
    """The cursor of a position in the answer to the question with this digest of DIGEST_BYTES."""
    before, start, end = ((at - _EPOCH) // STEP for at in (position.before, position.within.start, position.within.end))
    packed = _LAYOUT.pack(before, position.before_id.bytes, start, end, digest)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_cursor(cursor: str, digest: bytes) -> PagePosition:
    """The position that was encoded. Raises Malformed for a text that is no cursor, or that of another question."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        before, event_id, start, end, of_question = _LAYOUT.unpack(base64.b64decode(padded, b"-_", validate=True))
        within = TimeRange(_EPOCH + start * STEP, _EPOCH + end * STEP)
        position = PagePosition(within, _EPOCH + before * STEP, UUID(bytes=event_id))
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
