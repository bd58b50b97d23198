"""An event as it is kept: its identity, its times, and the rules by which both come about.

Append-only: there is no way to change one. Validity is a mark on it, never a reason to lose it.
"""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID, SafeUUID

MAX_CLIENT_ID_CHARACTERS = 100
EVENT_TYPES = ("track", "identify", "page", "screen", "group", "alias")
# Client times outside these years are kept but not trusted to place an id in time.
_FIRST_USABLE_MS = 946_684_800_000
_LAST_USABLE_MS = 4_102_444_800_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_TRUSTED_SKEW = timedelta(seconds=60)
_MAX_AHEAD = timedelta(hours=23)
_MAX_TIMESTAMP_CHARACTERS = 40
_new = object.__new__
# its slots, past its own __setattr__, which refuses
_set_int, _set_is_safe = UUID.__dict__["int"].__set__, UUID.__dict__["is_safe"].__set__
_NOT_SAFE_NOR_UNSAFE = SafeUUID.unknown  # looking up a member of an Enum takes as long as making a UUID
_VARIANT = 0b10 << 62
_LOW_62_BITS = (1 << 62) - 1
_LOW_12_BITS = (1 << 12) - 1


class TrackingEvent(NamedTuple):
    """One event in the order of the columns of `write.tracking_events`, so that it is its own COPY record.

    A tuple rather than a dataclass: made tens of thousands of times a second (docs/decisions/0003). JSON stands as
    UTF-8 text in bytes. Build it with the values that `ingest` settled; the database repeats the checks that matter.
    """

    partner_system_id: UUID
    id: UUID
    event_name: str
    event_timestamp: datetime
    original_timestamp: datetime | None
    sent_at: datetime | None
    received_at: datetime
    user_id: str | None
    anonymous_id: str | None
    message_id: str | None
    event_properties: bytes
    schema_version: int | None
    is_valid: bool
    validation_errors: bytes | None
    clock_adjusted: bool
    correlation_id: str
    event_type: str | None = None
    """One of EVENT_TYPES; None stands for track, which nearly all are."""
    context: bytes | None = None
    is_bot: bool = False


def fresh_id(unix_ms: int, random_bits: int) -> UUID:
    """UUIDv7 (RFC 9562 §5.7): 48 bits of time, 74 of `random_bits`."""
    return _compose(unix_ms, 0x7, random_bits)


def client_event_id(partner_system_id: UUID, client_id: str, original: datetime | None) -> UUID:
    """UUIDv8 (RFC 9562 §5.8): the same for every retry, as it depends on nothing but its arguments.

    48 bits of `original` in ms (zero when it is missing or outside 2000..2100), 74 of BLAKE2b keyed with the system.
    """
    digest = blake2b(client_id.encode(), digest_size=10, key=partner_system_id.bytes).digest()
    return _compose(usable_ms(original), 0x8, int.from_bytes(digest, "big"))


def to_unix_ms(at: datetime) -> int:
    """Whole milliseconds since 1970, rounded down; exact, as `timestamp() * 1000` is not."""
    return (at - _EPOCH) // _MILLISECOND


def usable_ms(original: datetime | None) -> int:
    """Unix milliseconds of a client's time, or 0 where it is no help in placing the event."""
    if original is None:
        return 0
    unix_ms = to_unix_ms(original)
    return unix_ms if _FIRST_USABLE_MS <= unix_ms < _LAST_USABLE_MS else 0


def first_id_of(at: datetime) -> UUID:
    """The smallest id that an event or batch of this millisecond can have."""
    return UUID(int=max(to_unix_ms(at), 0) << 80)


def _compose(unix_ms: int, version: int, bits: int) -> UUID:
    number = (unix_ms << 16 | version << 12 | bits >> 62 & _LOW_12_BITS) << 64 | _VARIANT | bits & _LOW_62_BITS
    # what UUID(int=number) does once it has looked at its six kinds of arguments, in a third of the time; the state is
    # that of its __getstate__
    made: UUID = _new(UUID)
    _set_int(made, number)
    _set_is_safe(made, _NOT_SAFE_NOR_UNSAFE)
    return made


def parse_timestamp(text: str) -> datetime | None:
    """ISO 8601 with `Z` or an offset, as UTC; without one it is taken as UTC. None if it cannot be read."""
    if len(text) > _MAX_TIMESTAMP_CHARACTERS or "\x00" in text:  # Python 3.11 stops reading at a NUL
        return None
    try:
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is UTC:
            return parsed
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def settle_time(original: datetime | None, sent_at: datetime | None, received_at: datetime) -> tuple[datetime, bool]:
    """The time analytics use, and whether the client's clock had to be corrected.

    A client whose clock is off by more than 60 s (judged by `sent_at`) keeps its distances: what it called an hour
    before sending becomes an hour before receiving. More than 23 h ahead is no time at all: received_at then.
    """
    if original is None:
        return received_at, False
    settled, is_adjusted = original, False
    if sent_at is not None and abs(received_at - sent_at) > _TRUSTED_SKEW:
        try:
            settled, is_adjusted = received_at - (sent_at - original), True
        except OverflowError:
            return received_at, True
    if settled - received_at > _MAX_AHEAD:
        return received_at, True
    return settled, is_adjusted
