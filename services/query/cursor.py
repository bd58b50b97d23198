"""Positions within a list of events, and the opaque cursors that stand for them."""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import UUID

from services.query.time_range import TimeRange
from tracking.domain.errors import Malformed

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_EXACT_INTEGER = 2**53 - 1  # of JSON's readers (RFC 8259, section 6)
_CURSOR = struct.Struct(">q16sqq8s")


def _wrong_cursor(message: str) -> Malformed:
    return Malformed("invalid_cursor", f"cursor: {message}.", [{"field": "cursor", "message": message}])


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
