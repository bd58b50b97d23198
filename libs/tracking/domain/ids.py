"""Event ids: UUIDv7 of the receive time, or UUIDv8 derived from the sender's message id."""

from datetime import datetime
from hashlib import blake2b
from uuid import UUID, SafeUUID

from tracking.domain.timestamps import to_unix_ms

# Client times outside these years are kept but not trusted to place an id in time.
_FIRST_USABLE_MS = 946_684_800_000
_LAST_USABLE_MS = 4_102_444_800_000
_new = object.__new__
# its slots, past its own __setattr__, which refuses
_set_int, _set_is_safe = UUID.__dict__["int"].__set__, UUID.__dict__["is_safe"].__set__
_NOT_SAFE_NOR_UNSAFE = SafeUUID.unknown  # looking up a member of an Enum takes as long as making a UUID
_VARIANT = 0b10 << 62
_LOW_62_BITS = (1 << 62) - 1
_LOW_12_BITS = (1 << 12) - 1


def make_uuid7(unix_ms: int, random_bits: int) -> UUID:
    """UUIDv7 (RFC 9562 §5.7): 48 bits of time, 74 of `random_bits`."""
    return _build_uuid(unix_ms, 0x7, random_bits)


def derive_event_id(partner_system_id: UUID, client_id: str, original: datetime | None) -> UUID:
    """UUIDv8 (RFC 9562 §5.8): the same for every retry, as it depends on nothing but its arguments.

    48 bits of `original` in ms (zero when it is missing or outside 2000..2100), 74 of BLAKE2b keyed with the system.
    """
    digest = blake2b(client_id.encode(), digest_size=10, key=partner_system_id.bytes).digest()
    return _build_uuid(get_usable_unix_ms(original), 0x8, int.from_bytes(digest, "big"))


def get_usable_unix_ms(original: datetime | None) -> int:
    """Unix milliseconds of a client's time, or 0 where it is no help in placing the event."""
    if original is None:
        return 0
    unix_ms = to_unix_ms(original)
    return unix_ms if _FIRST_USABLE_MS <= unix_ms < _LAST_USABLE_MS else 0


def make_lowest_id(at: datetime) -> UUID:
    """The smallest id that an event or batch of this millisecond can have."""
    return UUID(int=max(to_unix_ms(at), 0) << 80)


def get_previous_id(id_: UUID) -> UUID:
    """The id directly before this one, so that `id > previous` begins with it; the lowest id has none before it."""
    return UUID(int=max(id_.int - 1, 0))


def _build_uuid(unix_ms: int, version: int, bits: int) -> UUID:
    number = (unix_ms << 16 | version << 12 | bits >> 62 & _LOW_12_BITS) << 64 | _VARIANT | bits & _LOW_62_BITS
    # what UUID(int=number) does once it has looked at its six kinds of arguments, in a third of the time; the state is
    # that of its __getstate__
    made: UUID = _new(UUID)
    _set_int(made, number)
    _set_is_safe(made, _NOT_SAFE_NOR_UNSAFE)
    return made
