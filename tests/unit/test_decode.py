"""A body that is not JSON is read as far as it can be read, and what was changed in it is said."""

import pytest

from services.gateway.events.decode import decode_batch, decode_event, decode_sdk_batch
from services.gateway.events.envelope import FlaggedEnvelope
from tracking.domain.errors import Malformed, TooLarge

MAX_EVENTS = 2_500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d"', "\x00"),
        (r'"a\uD83Db"', "a\x00b"),
        (r'"\ude00"', "\x00"),
        (r'"\ud83d\ud83d\ude00"', "\x00\U0001f600"),
        (r'"\ud83d\ude00\ude00"', "\U0001f600\x00"),
        (r'"\ude00\ud83d"', "\x00\x00"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\\ud83d \ud83d"', "\\ud83d \x00"),
        (r'{"\ud800": ["\udfff", "\u00e9"]}', {"\x00": ["\x00", "é"]}),
    ],
)
def test_half_a_pair_becomes_a_nul(text: str, value: object) -> None:
    assert decode_event(text.encode()) == value


def test_half_a_pair_is_replaced_at_any_size() -> None:
    body = b'{"a":"\\ud83d","b":"' + b"x" * 3_000_000 + b'"}'

    assert decode_event(body)["a"] == "\x00"


@pytest.mark.parametrize(
    ("body", "value", "codes"),
    [
        (b'{"a":NaN,"b":[Infinity,-Infinity]}', {"a": None, "b": [None, None]}, ["number_out_of_range"]),
        (b'{"a":1e999,"b":-1E+400,"c":1.5e3}', {"a": None, "b": None, "c": 1500.0}, ["number_out_of_range"]),
        (b'{"a":%b}' % (b"9" * 4_000), {"a": None}, ["number_out_of_range"]),
        (b'{"a":"NaN","b":NaN}', {"a": "NaN", "b": None}, ["number_out_of_range"]),
        (b'{"a":"\xff\xfe"}', {"a": "\ufffd\ufffd"}, ["invalid_utf8"]),
        ('{"a":"é"}'.encode("latin-1"), {"a": "\ufffd"}, ["invalid_utf8"]),
        (b'{"a":"\xed\xa0\xbdx"}', {"a": "\ufffdx"}, ["invalid_utf8"]),
        (b'{"a":"x\ty\nz"}', {"a": "x\ty\nz"}, ["control_character"]),
        (b'{"a":"x\x00"}', {"a": "x\x00"}, ["control_character"]),
        (b'{"a":"\xff\t","b":NaN}', {"a": "\ufffd\t", "b": None}, ["invalid_utf8", "control_character",
                                                                  "number_out_of_range"]),
    ],
)  # fmt: skip
def test_an_event_that_is_nearly_json_is_read_and_flagged(body: bytes, value: object, codes: list[str]) -> None:
    found = decode_event(body)

    assert isinstance(found, FlaggedEnvelope)
    assert found == value
    assert [code for code, _ in found.flags] == codes
    assert found.raw == body


def test_a_byte_order_mark_is_skipped_without_a_flag() -> None:
    mark = b"\xef\xbb\xbf"

    assert type(decode_event(mark + b'{"a":1}')) is dict
    assert decode_batch(mark + b'{"events":[{"a":1}]}', MAX_EVENTS).envelopes == [{"a": 1}]
    assert decode_batch(mark + b'{"a":1}\n{"a":2}', MAX_EVENTS).envelopes == [{"a": 1}, {"a": 2}]
    assert decode_sdk_batch(mark + b'[{"a":1},{"a":NaN}]', MAX_EVENTS) == [{"a": 1}, {"a": None}]


@pytest.mark.parametrize(
    "text",
    ["", "{", "nan", r"\ud83d", r'"\ud83d', r'["\ud83d",]', '"\\ud83d" x', "[" * 5_000 + "NaN" + "]" * 5_000],
)
def test_any_other_text_is_no_event(text: str) -> None:
    with pytest.raises(Malformed):
        decode_event(text.encode())


def test_one_event_on_several_lines_is_no_ndjson() -> None:
    found = decode_batch(b'{\n  "eventName": "a",\n  "value": NaN\n}\n', MAX_EVENTS).envelopes

    assert found == [{"eventName": "a", "value": None}]


def test_more_lines_than_a_batch_may_have_are_not_read() -> None:
    with pytest.raises(TooLarge):
        decode_batch(b'{"a":}\n' * (MAX_EVENTS + 1), MAX_EVENTS)
