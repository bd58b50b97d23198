"""Of a batch that is not JSON every element is read alone, and no body makes that expensive."""

import sys
from types import FrameType
from typing import Any

import pytest

from services.gateway.events.decode import decode_batch
from services.gateway.events.envelope import FlaggedEnvelope
from services.gateway.events.rejection import Rejection
from services.gateway.events.salvage import BYTES_PER_STEP, FREE_STEPS, salvage_batch
from tracking.domain.errors import TrackingError

GOOD = b'{"eventName":"good","eventProperties":{"items":[{"a":1},{"b":"]},{"}]}}'
MAX_EVENTS = 2_500
# around one step, and for one element
LINES_A_STEP, LINES_AN_ELEMENT = 20, 100

# each stands between two good ones
UNREADABLE = {
    "a word": b"undefined",
    "a value that is a word": b'{"a":undefined}',
    "single quotes": b"{'a':'b'}",
    "a name without quotes": b"{a:1}",
    "no value": b'{"a":}',
    "a comma at the end": b'{"a":1,}',
    "a zero before a number": b'{"a":01}',
    "an unknown escape": b'{"a":"\\x"}',
    "a comment": b"{/* c */}",
    "no brace at the end": b'{"a":1',
    "no brace at the end of the inner object": b'{"a":{"b":1}',
    "two braces missing": b'{"a":{"b":{"c":1}',
    "no bracket at the end": b'{"a":[1,[2]}',
    "a brace for a bracket": b'{"a":[{"b":1}}}',
    "a brace too many": b'{"a":1}}',
    "words behind it": b'{"a":1} or so',
    "a name alone": b'{"a"}',
    "UTF-16": '{"a":1}'.encode("utf-16-le"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
@pytest.mark.parametrize(
    "batch",
    [b"[%b,%b,%b]", b'{"apiKey":"k","events":[%b,\n %b ,\r\n%b],"sentAt":NaN}'],
    ids=["array", "object"],
)
def test_an_element_that_cannot_be_read_is_rejected_alone(batch: bytes, name: str) -> None:
    body = batch % (GOOD, UNREADABLE[name], GOOD)

    first, second, third = decode_batch(body, MAX_EVENTS).envelopes

    assert first["eventName"] == third["eventName"] == "good"
    assert isinstance(second, Rejection)
    assert second.reason == "malformed_json"
    assert second.raw == UNREADABLE[name]


@pytest.mark.parametrize(
    "bad",
    [b'{"eventName":"a, "eventProperties":{"items":[{"s":1},{"s":2}]}}', b'{"eventName":"b\\"}'],
    ids=["no quote", "an escaped quote"],
)
def test_an_element_whose_string_has_no_end_is_rejected_alone(bad: bytes) -> None:
    good = b'{"eventName":"good"}'

    first, second, third = decode_batch(b"[%b,%b,%b]" % (good, bad, good), MAX_EVENTS).envelopes

    assert first == third == {"eventName": "good"}
    assert second.raw == bad


def test_an_element_that_is_nearly_json_is_flagged_alone() -> None:
    body = b"[%b,%b,%b]" % (GOOD, b'{"eventName":NaN,"userId":"\xff"}', GOOD)

    first, second, third = decode_batch(body, MAX_EVENTS).envelopes

    assert type(first) is type(third) is dict
    assert isinstance(second, FlaggedEnvelope)
    assert [code for code, _ in second.flags] == ["invalid_utf8", "number_out_of_range"]


def test_elements_without_a_comma_between_them_are_all_read() -> None:
    found = decode_batch(b"[%b %b\n%b,,%b,]" % (GOOD, GOOD, GOOD, GOOD), MAX_EVENTS).envelopes

    assert [type(each) for each in found] == [dict] * 4


def test_a_batch_that_ends_early_keeps_the_elements_before_its_end() -> None:
    body = b'{"apiKey":"k","events":[%b,%b,%b' % (GOOD, GOOD, GOOD[:-9])

    found = decode_batch(body, MAX_EVENTS)

    assert [type(each) for each in found.envelopes] == [dict, dict, Rejection]
    assert found.api_key == "k"


def test_what_follows_a_batch_is_not_dropped_in_silence() -> None:
    found = decode_batch(b"[%b]\x00\x00" % GOOD, MAX_EVENTS).envelopes

    assert found[1].raw == b"\x00\x00"


def test_the_members_beside_an_unreadable_element_count() -> None:
    body = b'{"sentAt":"2026-01-01T00:00:00Z","events":[{"a":}],"x":"\xff","apiKey":"k"}'

    found = decode_batch(body, MAX_EVENTS)

    assert (found.api_key, found.sent_at) == ("k", "2026-01-01T00:00:00Z")


def test_a_batch_of_one_unreadable_element_is_answered_by_its_index() -> None:
    assert [type(each) for each in decode_batch(b'[{"a":undefined}]', MAX_EVENTS).envelopes] == [Rejection]


def fill(unit: bytes, size: int, before: bytes = b"[", after: bytes = b"]") -> bytes:
    """A body of about that size: the unit again and again."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


HOSTILE = {
    "numbers": (b"0,", b"[", b"NaN]"),
    "bad elements": (b'{"a":},', b"[", b"]"),
    "bad elements without commas": (b'{"a":}', b"[", b"]"),
    "open brackets": (b"[", b"[", b""),
    "open objects": (b'{"a":', b"[", b""),
    "pairs of brackets": (b"[],", b"[[NaN,", b"0]]"),
    "brackets 100 deep": (b"[" * 100 + b"]" * 100 + b",", b"[", b"NaN]"),
    "brackets of both kinds": (b"[{", b"[", b"]"),
    "closed brackets": (b"]}", b"[", b"]"),
    "members": (b'"a":1,', b"{", b'"events":[NaN]}'),
    "quotes": (b'"', b"[", b""),
    "beginnings of events": (b',{"event":[', b"[1", b""),
    "beginnings of events in strings": (b',{"event":["', b"[1", b""),
    "beginnings of events and a quote": (b',{"event":["x"', b'[["', b'"'),
    "a quote in deep brackets": (b"x", b"[" + b'[{"a":' * 120 + b'"', b""),
    "text in deep brackets": (b"x", b"[" + b'[{"a":' * 120, b""),
    "commas and spaces": (b",  ", b'[{"a":1', b"{"),
    "backslashes": (b"\\", b'["', b""),
    "lines": (b'{"a":}\n', b"", b"{"),
}


def count_lines(body: bytes) -> int:
    """How many lines of Python the decoding takes."""
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        decode_batch(body, MAX_EVENTS)
    except TrackingError:
        pass
    finally:
        sys.settrace(before)
    return lines


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_for_a_hostile_body_is_bounded_by_its_size(name: str) -> None:
    unit, before, after = HOSTILE[name]

    for size in (4_000, 64_000):
        steps = FREE_STEPS + size // BYTES_PER_STEP
        assert count_lines(fill(unit, size, before, after)) < LINES_A_STEP * steps + LINES_AN_ELEMENT * MAX_EVENTS


def test_a_batch_of_sdk_messages_needs_few_steps() -> None:
    message = (
        b'{"type":"track","event":"Order Completed","messageId":"ajs-1","properties":{"products":[{"id":1},{"id":2}],'
        b'"total":5.5},"context":{"page":{"path":"/","url":"https://example.com/"},"library":{"name":"analytics.js",'
        b'"version":"1.84.0"},"campaign":{},"screen":{"width":1},"userAgentData":{"brands":[{"brand":"Chromium"}]}},'
        b'"integrations":{"All":true},"_metadata":{"bundled":["Segment.io"],"unbundled":[]}}'
    )

    found = salvage_batch(b'{"batch":[%b,NaN]}' % b",".join([message] * 2_499), "batch", MAX_EVENTS)

    assert [type(each) for each in found["batch"]] == [dict] * 2_499 + [Rejection]


def test_patterns_pass_over_a_hostile_body_a_few_times_at_most() -> None:
    """Each element seems to reach to the end of the body, as its string has no end."""
    body = b"[1" + b',{"event":["x' * 3_000 + b'"'

    with pytest.raises(TrackingError):
        decode_batch(body, MAX_EVENTS)
