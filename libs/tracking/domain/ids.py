"""Event ids: UUIDv7 of the receive time, or UUIDv8 derived from the sender's message id.

A message id is one of two things. One that contains a random UUID was made for one call of an SDK, and its repeats
carry the same timestamp: it is placed by that time, among the events of its month. Any other is a name that its owner
chose for something, such as an order: it is placed by its hash, in a range of ids apart, so that a repeat is recognized
whatever its timestamp is. In doubt an id is a name, because a name that is taken for more is still stored once.

A UUID is made by filling the two slots of `uuid.UUID`, past its constructor. That depends on how Python lays out the
class, so it is done only if the slots are there and the result is what the constructor makes. It runs with Python 3.11;
the source of 3.14 has the same slots.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from uuid import UUID, SafeUUID

from tracking.domain.timestamps import to_unix_ms

# Client times outside these years are kept but not trusted to place an id in time.
_FIRST_USABLE_MS = 946_684_800_000
_LAST_USABLE_MS = 4_102_444_800_000
# the newest Python whose source was compared with this module; tests/unit/test_ids.py says what to do about a newer one
NEWEST_COMPARED_PYTHON = (3, 14)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID7 = 0x7 << 76 | 0b10 << 62  # version and variant
_UUID8 = 0x8 << 76 | 0b10 << 62
# No time that is usable, and no receive time before the year 9000, begins with four ones.
_NAMED = 0xF << 124
_HASHED_BITS_OF_NAMES = (1 << 124) - 1 & ~(0xF << 76 | 0b11 << 62)
_UUID_CHARACTERS = 36
_RANDOM_UUID = re.compile(
    "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1467][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}", re.ASCII
)
# analytics.js up to 4 and the first versions of analytics-next: MD5 of the message and a random number;
# analytics-node up to 3: 32 random letters and digits
_OTHER_FORM_OF_SDKS = re.compile("ajs-(?:next-)?[0-9a-f]{32}|node-[0-9A-Za-z]{32}", re.ASCII)
_LOW_62_BITS = (1 << 62) - 1
_LOW_12_BITS = (1 << 12) - 1


def make_uuid7(unix_ms: int, random_bits: int) -> UUID:
    """Return a UUIDv7 (RFC 9562 §5.7): 48 bits of time and 74 bits of `random_bits`."""
    return _make_uuid(_UUID7 | unix_ms << 80 | (random_bits >> 62 & _LOW_12_BITS) << 64 | random_bits & _LOW_62_BITS)


def is_made_per_call(client_id: str) -> bool:
    """Return whether an SDK made this message id for one call of it; otherwise it is a name.

    Such an id ends with a random UUID, that is one of version 1, 4, 6 or 7 with its dashes, alone or after a prefix and
    a character that is neither a letter nor a digit; or it has one of the other forms that SDKs are known to make.
    """
    ending = client_id[-_UUID_CHARACTERS:]
    if _RANDOM_UUID.fullmatch(ending) is not None:
        return len(client_id) == _UUID_CHARACTERS or not client_id[-_UUID_CHARACTERS - 1].isalnum()
    return _OTHER_FORM_OF_SDKS.fullmatch(client_id) is not None


def derive_event_id(
    partner_system_id: UUID, client_id: str, original: datetime | None, *, is_name: bool = False
) -> UUID:
    """Return a UUIDv8 (RFC 9562 §5.8) that depends only on the arguments, so every retry gets the same id.

    A name, which every id is if `is_name`, and an id without a usable time, depend on nothing but the id: the first
    four bits are ones, and 118 bits are BLAKE2b keyed with the partner system. All other ids are dated.
    """
    unix_ms = 0 if is_name or not is_made_per_call(client_id) else get_usable_unix_ms(original)
    if unix_ms:
        return _derive_dated_id(partner_system_id, client_id, unix_ms)
    digest = blake2b(client_id.encode(), digest_size=16, key=partner_system_id.bytes).digest()
    return _make_uuid(_UUID8 | int.from_bytes(digest, "big") & _HASHED_BITS_OF_NAMES | _NAMED)


def is_named_id(event_id: UUID) -> bool:
    """Return whether an event has this id because of its name alone."""
    return event_id.int >= _NAMED


def derive_dated_id(partner_system_id: UUID, client_id: str, original: datetime | None) -> UUID:
    """Return the UUIDv8 of an id that was made per call, or of any message id before names had a place of their own.

    It has 48 bits of `original` in ms (zero if that is missing or outside 2000..2100) and 74 bits of BLAKE2b keyed with
    the partner system.
    """
    return _derive_dated_id(partner_system_id, client_id, get_usable_unix_ms(original))


def _derive_dated_id(partner_system_id: UUID, client_id: str, unix_ms: int) -> UUID:
    digest = blake2b(client_id.encode(), digest_size=10, key=partner_system_id.bytes).digest()
    bits = int.from_bytes(digest, "big")
    return _make_uuid(_UUID8 | unix_ms << 80 | (bits >> 62 & _LOW_12_BITS) << 64 | bits & _LOW_62_BITS)


def get_usable_unix_ms(original: datetime | None) -> int:
    """Return a client's time in Unix milliseconds, or 0 if it is too implausible to order an id by."""
    if original is None:
        return 0
    unix_ms = to_unix_ms(original)
    return unix_ms if _FIRST_USABLE_MS <= unix_ms < _LAST_USABLE_MS else 0


def read_uuid7_time(id_: UUID) -> datetime | None:
    """Return the time of a UUIDv7 in whole milliseconds, None for an id of another version."""
    return _EPOCH + timedelta(milliseconds=id_.int >> 80) if id_.version == 7 else None


def get_unix_ms(id_: UUID) -> int:
    """Return the time in an event id, in Unix milliseconds; 0 if it has none."""
    return 0 if id_.int >= _NAMED else id_.int >> 80


def make_lowest_id(at: datetime) -> UUID:
    """Return the smallest id that an event or batch of this millisecond can have."""
    return UUID(int=max(to_unix_ms(at), 0) << 80)


def get_previous_id(id_: UUID) -> UUID:
    """Return the id directly before, so that `id > previous` includes this id. The lowest id is its own previous id."""
    return UUID(int=max(id_.int - 1, 0))


def make_slot_filler(uuid_class: type[UUID]) -> Callable[[int], UUID]:
    """Return a function that makes a UUID of 128 bits by filling its slots, past `__setattr__`, which refuses.

    Raises KeyError or AttributeError if the class has other slots. The constructor takes 3.1 times as long (0.80 and
    0.27 µs): median of 60 pairs of 20 000 UUIDs, taken in turn in CPU time; 50 of the ratios lie between 2.6 and 3.7.
    """
    new, unknown = object.__new__, SafeUUID.unknown
    set_int, set_is_safe = uuid_class.__dict__["int"].__set__, uuid_class.__dict__["is_safe"].__set__

    def make_by_slots(number: int) -> UUID:
        made: UUID = new(uuid_class)
        set_int(made, number)
        set_is_safe(made, unknown)
        return made

    return make_by_slots


def select_maker(uuid_class: type[UUID]) -> Callable[[int], UUID]:
    """Return the filler of slots if it makes what the constructor makes, else the constructor."""

    def make_plainly(number: int) -> UUID:
        return uuid_class(int=number)

    try:
        make_by_slots = make_slot_filler(uuid_class)
        made, plain = make_by_slots(_UUID7), make_plainly(_UUID7)
        is_same = (made, made.is_safe, str(made), hash(made)) == (plain, plain.is_safe, str(plain), hash(plain))
    except (KeyError, AttributeError, TypeError):
        return make_plainly
    return make_by_slots if is_same else make_plainly


_make_uuid = select_maker(UUID)
