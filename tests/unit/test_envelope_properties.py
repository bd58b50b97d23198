"""Any bytes or JSON give an event or a rejection with a documented reason, and ids have the promised properties."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeVar, get_args
from uuid import UUID

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from services.gateway.events.decide import IngestContext, decide
from services.gateway.events.decode import decode_batch, decode_event
from services.gateway.events.rejection import Rejection, RejectionReason
from services.gateway.events.structure_index import StructureIndex
from tracking.contracts.cache_entries import ApiKeyEntry
from tracking.domain.errors import Malformed
from tracking.domain.ids import derive_dated_id, get_usable_unix_ms, make_lowest_id, make_uuid7
from tracking.domain.placeholder_ids import is_placeholder_id
from tracking.domain.timestamps import correct_clock_skew, parse_timestamp, to_unix_ms
from tracking.domain.tracking_event import TrackingEvent

T = TypeVar("T")
_NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)
_SYSTEM = UUID(int=7)
_BITS = 2**74 - 3
_EVENT_BYTES = 64 * 1024
_REASONS = set(get_args(RejectionReason))
# nothing is registered, so that it needs neither Redis nor a database
_STRUCTURES = StructureIndex()
# the same examples each time: what CI finds, everybody finds
always_the_same = settings(derandomize=True, database=None, deadline=None, max_examples=200)

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=300)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=12,
)
_TIMES = st.datetimes(timezones=st.just(UTC))
_ISO = st.one_of(
    st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones()).map(datetime.isoformat),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=23, minutes=59)))).map(datetime.isoformat),
    st.text(alphabet="0123456789-:.,+TZW \x00", max_size=45),
)
_NAMES = ("eventName", "userId", "anonymousId", "eventId", "messageId", "schemaVersion", "eventProperties")
_ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(_NAMES, _TEXTS | _JSON),
        "eventTimestamp": _ISO | _JSON,
        "sentAt": _ISO | _JSON,
    },
)


def a_sender() -> IngestContext:
    key = ApiKeyEntry(UUID(int=1), None, None, _SYSTEM, "Site", True, UUID(int=2), "Acme", True)
    return IngestContext(key, _NOW, to_unix_ms(_NOW), "c-1", _EVENT_BYTES)


def assert_is_storable(event: TrackingEvent) -> None:
    """Check the constraints of `write.tracking_events`."""
    assert 1 <= len(event.event_name) <= 200
    assert event.user_id or event.anonymous_id
    assert len(event.user_id or "") <= 255
    assert len(event.anonymous_id or "") <= 255
    assert len(event.message_id or "") <= 100
    assert not any("\x00" in (text or "") for text in (event.event_name, event.user_id, event.message_id))
    assert isinstance(orjson.loads(event.event_properties), dict)
    assert len(event.event_properties) <= _EVENT_BYTES
    assert event.is_valid == (event.validation_errors is None)
    for at in (event.event_timestamp, event.original_timestamp, event.sent_at):
        assert at is None or at.utcoffset() == timedelta(0)
    assert event.event_timestamp - _NOW <= timedelta(hours=23)


def decoded(decode: Callable[[bytes], T], body: bytes) -> T | Malformed:
    """Return the decided event or None if it is rejected; any other error is a bug."""
    try:
        return decode(body)
    except Malformed as error:
        return error


def assert_is_decided(envelope: Any) -> None:
    decided = decide(envelope, a_sender(), _STRUCTURES, _BITS)
    if isinstance(decided, Rejection):
        assert decided.reason in _REASONS
    else:
        assert_is_storable(decided)


@always_the_same
@given(st.binary(max_size=400) | _JSON.map(orjson.dumps) | _ENVELOPES.map(orjson.dumps))
def test_any_bytes_are_an_event_or_rejected_with_a_reason(body: bytes) -> None:
    envelope = decoded(decode_event, body)

    if isinstance(envelope, Malformed):
        assert envelope.code == "malformed_json"
    else:
        assert_is_decided(envelope)


@always_the_same
@given(
    st.binary(max_size=400)
    | st.lists(_ENVELOPES, max_size=3).map(orjson.dumps)
    | st.lists(_ENVELOPES.map(orjson.dumps) | st.binary(max_size=20), max_size=4).map(b"\n".join)
    | st.fixed_dictionaries({}, optional={"events": st.lists(_JSON) | _JSON, "sentAt": _JSON, "apiKey": _JSON}).map(
        orjson.dumps
    )
)
def test_any_bytes_are_a_batch_or_rejected_with_a_reason(body: bytes) -> None:
    batch = decoded(decode_batch, body)

    if isinstance(batch, Malformed):
        assert batch.code in ("malformed_json", "invalid_batch")
    else:
        assert batch.api_key is None or isinstance(batch.api_key, str)
        for envelope in batch.envelopes:
            assert_is_decided(envelope)


@always_the_same
@given(_JSON)
def test_any_json_is_an_event_or_rejected_with_a_reason(envelope: Any) -> None:
    assert_is_decided(envelope)


@always_the_same
@given(_ENVELOPES | _JSON)
def test_the_same_arguments_make_the_same_event(envelope: Any) -> None:
    body = orjson.dumps(envelope)

    first, second = (decide(orjson.loads(body), a_sender(), _STRUCTURES, _BITS) for _ in range(2))

    assert first == second


def test_an_event_without_a_message_id_has_the_id_of_its_receive_time_and_random_bits() -> None:
    event = decide({"eventName": "a", "userId": "u"}, a_sender(), _STRUCTURES, _BITS)

    assert isinstance(event, TrackingEvent)
    assert event.id == make_uuid7(to_unix_ms(_NOW), _BITS)


@always_the_same
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=200),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=255).filter(
        lambda text: not is_placeholder_id(text)
    ),
    st.dictionaries(_TEXTS.filter(lambda text: "\x00" not in text), st.integers(-(2**53), 2**53) | st.none()),
    _TIMES,
)
def test_what_is_accepted_is_kept_as_it_came(name: str, user_id: str, properties: dict[str, Any], at: datetime) -> None:
    envelope = {"eventName": name, "userId": user_id, "eventProperties": properties, "eventTimestamp": at.isoformat()}

    event = decide(decode_event(orjson.dumps(envelope)), a_sender(), _STRUCTURES, _BITS)

    assert isinstance(event, TrackingEvent)
    assert (event.event_name, event.user_id, event.original_timestamp) == (name, user_id, at)
    assert orjson.loads(event.event_properties) == properties
    assert event.is_valid


@always_the_same
@given(st.integers(65, 1024), st.booleans())
def test_no_depth_is_more_than_too_deep(depth: int, is_text: bool) -> None:
    properties = '{"a":' * depth + "1" + "}" * depth
    envelope = {"eventName": "a", "userId": "u", "eventProperties": properties if is_text else orjson.loads(properties)}

    decided = decide(envelope, a_sender(), _STRUCTURES, _BITS)

    assert isinstance(decided, Rejection)
    assert decided.reason == "too_deep"


@always_the_same
@given(_ISO | _TEXTS)
def test_any_text_is_a_time_in_utc_or_none(text: str) -> None:
    parsed = parse_timestamp(text)

    assert parsed is None or parsed.utcoffset() == timedelta(0)


@always_the_same
@given(_TIMES, st.none() | _TIMES, _TIMES)
def test_a_corrected_time_is_never_far_ahead(
    original: datetime, sent_at: datetime | None, received_at: datetime
) -> None:
    corrected, is_adjusted = correct_clock_skew(original, sent_at, received_at)

    assert corrected - received_at <= timedelta(hours=23)
    assert is_adjusted or corrected == original


@always_the_same
@given(st.uuids(), _TEXTS, st.none() | _TIMES)
def test_a_retry_has_the_same_id_in_the_same_partition(system: UUID, client_id: str, at: datetime | None) -> None:
    made, again = (derive_dated_id(system, client_id, at) for _ in range(2))

    assert made == again
    assert (made.version, made.variant) == (8, "specified in RFC 4122")
    assert made.int >> 80 == get_usable_unix_ms(at)
    if at is not None and get_usable_unix_ms(at):
        # the range of its partition is that of its millisecond
        assert make_lowest_id(at) <= made < make_lowest_id(at + timedelta(milliseconds=1))
    else:
        assert made.int >> 80 == 0


@always_the_same
@given(st.tuples(st.uuids(), _TEXTS, _TIMES), st.tuples(st.uuids(), _TEXTS, _TIMES))
def test_another_system_client_id_or_millisecond_is_another_id(
    one: tuple[UUID, str, datetime], other: tuple[UUID, str, datetime]
) -> None:
    first = derive_dated_id(*one)

    for changed in ((other[0], *one[1:]), (one[0], other[1], one[2]), (*one[:2], other[2])):
        is_same = (changed[0], changed[1], get_usable_unix_ms(changed[2])) == (
            one[0],
            one[1],
            get_usable_unix_ms(one[2]),
        )
        assert (derive_dated_id(*changed) == first) == is_same


@always_the_same
@given(_TIMES, _TIMES, st.integers(0, 2**74 - 1), st.integers(0, 2**74 - 1))
def test_fresh_ids_are_ordered_by_their_milliseconds(one: datetime, other: datetime, bits: int, more: int) -> None:
    before, after = sorted(max(to_unix_ms(at), 0) for at in (one, other))
    first, second = make_uuid7(before, bits), make_uuid7(after, more)

    assert (first.version, first.variant) == (7, "specified in RFC 4122")
    assert first.int >> 80 == before
    assert before == after or first < second
