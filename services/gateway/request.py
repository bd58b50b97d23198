"""A request as bytes: its headers looked through once, its body read within limits of time and size."""

import asyncio
import base64
import binascii
import contextlib
import zlib
from collections.abc import Coroutine, Generator, Iterable
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope

from tracking.domain.errors import Malformed, TooLarge
from tracking.infra import correlation

_WANTED = frozenset(
    {b"x-api-key", b"authorization", b"content-encoding", b"content-length", b"x-correlation-id", b"idempotency-key"}
)
_ENCODINGS = {b"gzip": 16 + zlib.MAX_WBITS, b"x-gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
_INFLATE_STEP = 256 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may be; bytes, events and seconds."""

    body_bytes: int
    inflated_bytes: int
    inflation_ratio: int
    event_bytes: int
    batch_events: int
    body_timeout_s: float


class ClientGone(Exception):
    """The client closed the connection before its request was whole; nobody waits for an answer."""


class _Started:
    """A coroutine that was stepped once by hand and waits for a future: awaited from there."""

    def __init__(self, coroutine: Coroutine[Any, None, Message], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, Message]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    yield waits_for
                except BaseException as error:
                    waits_for = self._coroutine.throw(error)
                else:
                    waits_for = self._coroutine.send(None)
        except StopIteration as done:
            return cast(Message, done.value)


class Head:
    """What a request says before its body."""

    __slots__ = ("_headers", "_query", "correlation_id")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], query: bytes = b"") -> None:
        self._query = query
        self._headers = {name: value for name, value in headers if name in _WANTED}
        given = self._headers.get(b"x-correlation-id")
        self.correlation_id = correlation.accept(given.decode("latin-1") if given is not None else None)

    @property
    def is_plain(self) -> bool:
        """Whether the body's bytes are the JSON itself."""
        return b"content-encoding" not in self._headers

    def api_key(self) -> str | None:
        """The key from `X-Api-Key`, `Authorization: Bearer` or `Basic key:`, or the query; None if it is in none."""
        value = self._headers.get(b"x-api-key")
        if value is not None:
            return value.decode("latin-1").strip()
        value = self._headers.get(b"authorization")
        if value is not None:
            return _from_authorization(value)
        if self._query:
            parameters = parse_qs(self._query.decode("latin-1"))
            for name in ("apiKey", "writeKey"):
                if name in parameters:
                    return parameters[name][0]
        return None

    def idempotency_key(self) -> str | None:
        """`Idempotency-Key`, which stands for a missing eventId. Raises Malformed if it is over 100 characters."""
        value = self._headers.get(b"idempotency-key")
        if not value:
            return None
        if len(value) > 100:
            fault = {"field": "Idempotency-Key", "message": "longer than 100 characters"}
            raise Malformed("invalid_event", "The Idempotency-Key header is too long.", [fault])
        return value.decode("latin-1")


class Request(Head):
    """One request on the hot path."""

    __slots__ = ("_receive", "is_read")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope["headers"], scope["query_string"])
        self._receive = receive
        self.is_read = False

    async def body(self, limits: Limits) -> bytes:
        """The whole body, inflated.

        Raises TooLarge over a limit (before reading what Content-Length says is too much), Malformed for a body that
        does not come in time or is not what its Content-Encoding says, ClientGone.
        """
        declared = self._headers.get(b"content-length")
        if declared is not None and declared.isdigit() and int(declared) > limits.body_bytes:
            raise TooLarge(
                "body_too_large", f"The body has {declared.decode()} bytes; the limit is {limits.body_bytes}."
            )
        receiving = cast(Coroutine[Any, None, Message], self._receive())
        first: Message | None = None
        waits_for = None
        try:
            # a small body is here with its headers: take it without a timer, which would cost more than reading it
            waits_for = receiving.send(None)
        except StopIteration as arrived:
            first = arrived.value
        if first is not None and not first.get("more_body") and len(first.get("body", b"")) <= limits.body_bytes:
            if first["type"] == "http.disconnect":
                raise ClientGone
            self.is_read = True
            body = first["body"]
        else:
            body = await self._rest(first, _Started(receiving, waits_for), limits)
        encoding = self._headers.get(b"content-encoding")
        if encoding is None:
            return cast(bytes, body)
        encoding = encoding.strip().lower()
        if encoding in (b"", b"identity"):
            return cast(bytes, body)
        return _inflate(body, encoding, limits.inflated_bytes, limits.inflation_ratio)

    async def _rest(self, first: Message | None, receiving: _Started, limits: Limits) -> bytes:
        try:
            async with asyncio.timeout(limits.body_timeout_s):
                return await self._read(first or await receiving, limits.body_bytes)
        except TimeoutError as error:
            message = f"The body did not arrive within {limits.body_timeout_s:g} s."
            raise Malformed("body_timeout", message) from error

    async def _read(self, message: Message, limit: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise TooLarge("body_too_large", f"The body is larger than {limit} bytes.")
            chunks.append(chunk)
            if not message.get("more_body"):
                self.is_read = True
                return b"".join(chunks)
            message = await self._receive()

    async def drain(self, most_bytes: int, timeout_s: float) -> None:
        """Read and drop the rest, within limits: a client that is cut off while sending never sees its answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while most_bytes > 0:
                    message = await self._receive()
                    most_bytes -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return


def _from_authorization(value: bytes) -> str | None:
    scheme, _, credentials = value.partition(b" ")
    credentials = credentials.strip()
    if scheme.lower() == b"bearer":
        return credentials.decode("latin-1") or None
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[0].decode("latin-1") or None
        except binascii.Error:
            return None
    return None


def _inflate(body: bytes, encoding: bytes, limit: int, ratio: int) -> bytes:
    window_bits = _ENCODINGS.get(encoding)
    if window_bits is None:
        name = encoding.decode("latin-1")[:40]
        raise Malformed("unknown_encoding", f"Content-Encoding {name!r} is not one of gzip, deflate, identity.")
    # a small body may well inflate a hundredfold; the ratio only matters where it could hurt
    most = min(limit, max(len(body) * ratio, 64 * 1024))
    inflater = zlib.decompressobj(window_bits)
    chunks: list[bytes] = []
    size = 0
    rest = body
    try:
        while rest and not inflater.eof:
            chunk = inflater.decompress(rest, _INFLATE_STEP)
            size += len(chunk)
            if size > most:
                raise TooLarge("inflated_too_large", f"The body inflates to more than {most} bytes.")
            chunks.append(chunk)
            rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise Malformed("malformed_encoding", f"The body is not {encoding.decode('latin-1')}: {error}") from error
    if not inflater.eof or inflater.unused_data:
        raise Malformed("malformed_encoding", f"The body is not one whole {encoding.decode('latin-1')} stream.")
    return b"".join(chunks)
