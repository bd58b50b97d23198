"""The script that pages get, and the parameters of a pixel. No IO."""

import gzip

import pytest

from services.gateway.events.pixel import parse_pixel_query
from services.gateway.http.browser import GIF
from services.gateway.http.script import TrackerScript, accepts_gzip, matches_etag
from tracking.domain.errors import Malformed


def test_the_script_is_small_and_knows_its_route() -> None:
    script = TrackerScript("quiet-name")

    assert len(script.packed) <= 4096
    assert gzip.decompress(script.packed) == script.plain
    assert b'const ROUTE = "quiet-name";' in script.plain
    assert b'"beacon"' not in script.plain


def test_the_pixel_is_a_gif_of_43_bytes() -> None:
    assert len(GIF) == 43
    assert GIF.startswith(b"GIF89a\x01\x00\x01\x00")
    assert GIF.endswith(b"\x3b")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            b"writeKey=k&event=opened&anonymousId=a&campaign=may",
            {"type": "track", "event": "opened", "anonymousId": "a", "properties": {"campaign": "may"}},
        ),
        (b"userId=u&messageId=m", {"type": "page", "userId": "u", "messageId": "m", "properties": {}}),
        (b"type=identify&userId=u&plan=pro", {"type": "identify", "userId": "u", "traits": {"plan": "pro"}}),
        (
            b"eventName=e&eventId=m&eventTimestamp=t&x=1&x=2&x=&dryRun=true&apiKey=k",
            {"type": "track", "event": "e", "messageId": "m", "timestamp": "t", "properties": {"x": ["1", "2", ""]}},
        ),
        (
            b"event=first&event=second&event=first",
            {"type": "track", "event": "first", "properties": {"event": "second"}},
        ),
        (b"event=%ff%00&%C3%A9=%E2%82%AC", {"type": "track", "event": "\ufffd\x00", "properties": {"é": "€"}}),
        (b"", {"type": "page", "properties": {}}),
    ],
)
def test_a_query_is_a_message(query: bytes, message: object) -> None:
    assert parse_pixel_query(query) == message


def test_the_page_of_a_pixel_is_in_its_context() -> None:
    assert parse_pixel_query(b"event=e", "https://shop.example/a?b")["context"] == {
        "page": {"url": "https://shop.example/a?b"}
    }


def test_parameters_without_end_are_rejected() -> None:
    with pytest.raises(Malformed, match="200"):
        parse_pixel_query(b"&".join(b"a%d=1" % number for number in range(201)))


@pytest.mark.parametrize(
    ("accept_encoding", "takes_it"),
    [
        ("gzip, deflate, br", True),
        ("GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
def test_gzip_is_given_to_who_takes_it(accept_encoding: str, takes_it: bool) -> None:
    assert accepts_gzip(accept_encoding) == takes_it


@pytest.mark.parametrize(
    ("if_none_match", "known"),
    [('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("", False)],
)
def test_what_a_browser_has_is_not_sent_again(if_none_match: str, known: bool) -> None:
    assert matches_etag(if_none_match, '"a"') == known
