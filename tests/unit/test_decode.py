"""Half of a surrogate pair in JSON is repaired; everything else that is not JSON is rejected."""

import orjson
import pytest

from services.gateway.events.decode import parse_json


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
    assert parse_json(text.encode()) == value


@pytest.mark.parametrize("text", ["", "{", r'"\ud83"', r'"\ud83d', r'["\ud83d",]', "NaN", r"\ud83d", '"\\ud83d" x'])
def test_what_is_no_json_stays_none(text: str) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        parse_json(text.encode())


def test_a_very_large_body_is_not_mended() -> None:
    with pytest.raises(orjson.JSONDecodeError):
        parse_json(b'["\\ud83d", "' + b"x" * 3_000_000 + b'"]')
