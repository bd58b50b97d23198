"""Decompresses request bodies up to a limit, because a small body may well inflate a thousandfold.

The encoding is recognized by the first bytes of the body, because SDKs send gzip under headers that name something
else, or nothing.
"""

import zlib
from collections.abc import Callable, Iterator
from functools import partial

import brotli
import zstandard

from tracking.domain.errors import Malformed, TooLarge

_STEP_BYTES = 256 * 1024
_ZSTD_STEP_BYTES = 256
# Below this size the ratio is not checked, because such a body does no harm.
_ALWAYS_BYTES = 64 * 1024
# The window of zstd that is held in memory; RFC 8878 recommends that decoders support it and that encoders use no
# more.
_MAX_WINDOW_BYTES = 8 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

Pieces = Callable[[bytes], Iterator[bytes]]


class _NotWhole(Exception):
    """The compressed stream ends early, or something follows it."""


def inflate(
    body: bytes, encoding: bytes | None, limit: int, ratio: int, spend: Callable[[int], None] | None = None
) -> bytes:
    """Return the JSON in `body`, decompressed by its bytes or by `Content-Encoding`.

    `spend` is called with the size of each piece, and ends the work by raising. Raises TooLarge beyond `limit` bytes or
    `ratio` times the body's size, Malformed if the body is not in its encoding.
    """
    name, pieces = _decoder(body, encoding)
    if pieces is None:
        return body
    most = min(limit, max(len(body) * ratio, _ALWAYS_BYTES))
    parts: list[bytes] = []
    size = 0
    try:
        for piece in pieces(body):
            size += len(piece)
            if spend is not None:
                spend(len(piece))
            if size > most:
                raise TooLarge("inflated_too_large", f"The body inflates to more than {most} bytes.")
            parts.append(piece)
    except (zlib.error, brotli.error, zstandard.ZstdError) as error:
        raise Malformed("malformed_encoding", f"The body is not {name}: {error}") from error
    except _NotWhole as error:
        raise Malformed("malformed_encoding", f"The body is not one whole {name} stream.") from error
    return b"".join(parts)


def _decoder(body: bytes, encoding: bytes | None) -> tuple[str, Pieces | None]:
    """Return the name of the encoding and its decompressor; None for a body that is not compressed."""
    if body.startswith(_GZIP_MAGIC):
        return "gzip", partial(_zlib, 16 + zlib.MAX_WBITS)
    if body.startswith(_ZSTD_MAGIC):
        return "zstd", _zstd
    name = (encoding or b"").strip().lower()
    if name in (b"", b"identity") or (name != b"br" and body[:1] in (b"{", b"[")):
        return "identity", None
    if name in (b"gzip", b"x-gzip"):
        return "gzip", partial(_zlib, 16 + zlib.MAX_WBITS)
    if name == b"deflate":
        return "deflate", partial(_zlib, zlib.MAX_WBITS)
    if name == b"br":
        return "br", _brotli
    if name == b"zstd":
        return "zstd", _zstd
    shown = name.decode("latin-1")[:40]
    raise Malformed("unknown_encoding", f"Content-Encoding {shown!r} is not one of gzip, deflate, br, zstd, identity.")


def _zlib(window_bits: int, body: bytes) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window_bits)
    rest = body
    while rest and not inflater.eof:
        yield inflater.decompress(rest, _STEP_BYTES)
        rest = inflater.unconsumed_tail
    if not inflater.eof or inflater.unused_data:
        raise _NotWhole


def _brotli(body: bytes) -> Iterator[bytes]:
    inflater = brotli.Decompressor()
    piece = inflater.process(body, output_buffer_limit=_STEP_BYTES)
    while piece or not inflater.can_accept_more_data():
        yield piece
        if inflater.is_finished():
            return
        piece = inflater.process(b"", output_buffer_limit=_STEP_BYTES)
    if not inflater.is_finished():
        raise _NotWhole


def _zstd(body: bytes) -> Iterator[bytes]:
    inflater = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj()
    # The decompressor has no limit of output, so it gets little input at a time: a block inflates to 128 KiB at most.
    for start in range(0, len(body), _ZSTD_STEP_BYTES):
        if inflater.eof:
            raise _NotWhole
        yield inflater.decompress(body[start : start + _ZSTD_STEP_BYTES])
    if not inflater.eof or inflater.unused_data:
        raise _NotWhole
