"""Compressed bodies: a whole body is inflated, and a broken body is told apart from one that is too large."""

import gzip
import zlib

import brotli
import pytest
import zstandard

from services.gateway.http.inflate import inflate
from tracking.domain.errors import Malformed, TooLarge

BODY = b'{"eventName":"page_view","anonymousId":"a"}' * 3000
PACKED = {
    b"gzip": gzip.compress(BODY),
    b"x-gzip": gzip.compress(BODY),
    b"deflate": zlib.compress(BODY),
    b"br": brotli.compress(BODY),
    b"zstd": zstandard.compress(BODY),
}
LIMIT, RATIO = 20 * 1024 * 1024, 100_000


@pytest.mark.parametrize("encoding", PACKED)
def test_a_whole_body_comes_out_as_it_was(encoding: bytes) -> None:
    assert inflate(PACKED[encoding], encoding, LIMIT, RATIO) == BODY
    assert inflate(PACKED[encoding], b" " + encoding.upper(), LIMIT, RATIO) == BODY


@pytest.mark.parametrize("said", [None, b"", b"identity", b"deflate", b"br", b"unheard-of"])
def test_gzip_and_zstd_are_known_by_their_bytes(said: bytes | None) -> None:
    assert inflate(PACKED[b"gzip"], said, LIMIT, RATIO) == BODY
    assert inflate(PACKED[b"zstd"], said, LIMIT, RATIO) == BODY


@pytest.mark.parametrize("said", [None, b"", b"identity", b"gzip", b"deflate", b"zstd"])
def test_json_is_json_whatever_the_header_says(said: bytes | None) -> None:
    assert inflate(BODY, said, LIMIT, RATIO) == BODY


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize(
    "harm", [lambda body: body[:-1], lambda body: body[: len(body) // 2], lambda body: body + b"x"]
)
def test_what_is_not_one_whole_stream_is_malformed(encoding: bytes, harm: object) -> None:
    assert callable(harm)
    with pytest.raises(Malformed) as caught:
        inflate(harm(PACKED[encoding]), encoding, LIMIT, RATIO)

    assert caught.value.code == "malformed_encoding"


@pytest.mark.parametrize("encoding", PACKED)
def test_a_bomb_is_too_large_before_it_is_inflated(encoding: bytes) -> None:
    zeros = b"\0" * 50_000_000
    bomb = {
        b"deflate": zlib.compress,
        b"br": lambda data: brotli.compress(data, quality=5),
        b"zstd": zstandard.compress,
    }.get(encoding, gzip.compress)(zeros)

    with pytest.raises(TooLarge) as caught:
        inflate(bomb, encoding, LIMIT, RATIO)
    with pytest.raises(TooLarge):
        inflate(bomb, encoding, 10**9, 10)

    assert caught.value.code == "inflated_too_large"


def test_a_window_that_would_take_much_memory_is_rejected() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    wide = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = wide.compress(BODY) + wide.flush()

    with pytest.raises(Malformed):
        inflate(body, b"zstd", LIMIT, RATIO)


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(Malformed, match="'lzma' is not one of gzip, deflate, br, zstd"):
        inflate(b"\xfd7zXZ", b"lzma", LIMIT, RATIO)
