"""Handles small requests inside uvicorn's protocol class: no asyncio task, no ASGI messages, one write a response.

A `FastPathHandler` either takes a complete request and responds later from a callback, or declines it before any side
effect. A declined request goes through the ASGI application. A request by ASGI takes 3.2 times the CPU time of one on
the fast path (20.1 and 6.3 µs; docs/benchmarks.md, "Private members").

This module, `deadlines` and `server` rely on parts of uvicorn and of its parser that no document promises. They are
listed in `UVICORN` and `HTTPTOOLS`. With other versions `server.serve` uses uvicorn's own protocol: requests get the
same responses by ASGI, but only idle connections have a deadline.
"""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tracking.infra.private_members import PrivateMembers

UVICORN = PrivateMembers(
    "uvicorn",
    "0.54.0",
    {
        HttpToolsProtocol: (
            *("headers", "expect_100_continue", "parser", "flow", "cycle", "pipeline"),
            *("transport", "connections", "server_state", "loop"),
            *("connection_made", "connection_lost", "data_received", "shutdown", "_start_asgi_task"),
            *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"),
            "on_response_complete",
        ),
        RequestResponseCycle: (
            *("body", "more_body", "message_event", "keep_alive", "disconnected"),
            *("response_started", "response_complete"),
        ),
        FlowControl: ("write_paused", "pause_reading", "resume_reading"),
        ServerState: ("total_requests", "connections", "default_headers"),
        uvicorn.Config: ("encoded_headers",),
        uvicorn.Server: ("startup", "capture_signals", "server_state", "should_exit", "force_exit"),
    },
)
HTTPTOOLS = PrivateMembers(
    "httptools",
    "0.9.0",
    {
        httptools.HttpRequestParser: (
            *("feed_data", "get_method", "get_http_version", "should_keep_alive", "should_upgrade"),
            "set_dangerous_leniencies",
        )
    },
)
_log = logging.getLogger(__name__)
Headers = list[tuple[bytes, bytes]]
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class DeferredResponse:
    """The pending response of a request on the fast path. uvicorn treats it as the connection's current request."""

    __slots__ = ("_protocol", "body", "disconnected", "keep_alive", "more_body", "response_complete")

    def __init__(self, protocol: "FastPathProtocol", *, keep_alive: bool) -> None:
        self._protocol = protocol
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self.more_body = False
        self.body = b""

    @property
    def message_event(self) -> "DeferredResponse":
        """The event that uvicorn sets to wake a reader of the body."""
        return self

    def set(self) -> None:
        """Do nothing. uvicorn calls this to wake a reader of the body, and a request on the fast path has none."""

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """Send the response unless the client has gone. `headers` are whole lines, each with its CRLF."""
        close = b"" if self.keep_alive else b"connection: close\r\n"
        answer = b"%bcontent-length: %d\r\n%b%b\r\n%b" % (_STATUS_LINES[status], len(body), close, headers, body)
        _ResponseWriter.get_for_loop(self._protocol.loop).add(self, answer)

    def write(self, answer: bytes) -> None:
        """Write the response to the socket."""
        if not self.disconnected:
            self._protocol.transport.write(answer)

    def complete(self) -> None:
        """Release the connection for its next request."""
        if self.disconnected:
            return
        self.response_complete = True
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()


class _ResponseWriter:
    """Collects the responses of one turn of the event loop and writes them one directly after the other.

    A commit answers many requests. With other work between two writes, the receiver falls asleep after each and has to
    be woken by the next, which takes the writer longer than the write itself (docs/benchmarks.md).
    """

    _current: "_ResponseWriter | None" = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[tuple[DeferredResponse, bytes]] = []

    @classmethod
    def get_for_loop(cls, loop: asyncio.AbstractEventLoop) -> "_ResponseWriter":
        """Return the writer of `loop`."""
        if cls._current is None or cls._current._loop is not loop:
            cls._current = _ResponseWriter(loop)
        return cls._current

    def add(self, response: DeferredResponse, answer: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._write)
        self._waiting.append((response, answer))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        for response, answer in waiting:
            response.write(answer)
        for response, _ in waiting:
            response.complete()


class FastPathHandler(Protocol):
    """Takes a request (True: it will call `response.send` once, later) or declines it without side effects (False)."""

    def __call__(self, headers: Headers, body: bytes, response: DeferredResponse) -> bool:
        """Take or decline a request. `headers` have lower-case names, and `body` is complete."""


class FastPathProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a fast path for some routes: POST, HTTP/1.1, no query, a body in one piece."""

    fast_path_handlers: Mapping[bytes, FastPathHandler] = {}
    _handler: FastPathHandler | None = None
    _piece = b""

    def on_message_begin(self) -> None:
        """Called when a request begins. uvicorn builds an ASGI scope here, which the fast path does not need."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Called when all headers have arrived: decide whether the request may take the fast path."""
        handler = self.fast_path_handlers.get(self.url)
        if (
            handler is None
            or self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"
            or self.expect_100_continue
            or self.flow.write_paused
            or (self.cycle is not None and not self.cycle.response_complete)
        ):
            self._begin_asgi()
            return
        self._handler = handler
        self._piece = b""

    def on_body(self, body: bytes) -> None:
        """Called with a piece of the body. A request whose body has a second piece does not take the fast path."""
        if self._handler is None:
            super().on_body(body)
        elif not self._piece:
            self._piece = body
        else:
            self._go_by_asgi()
            super().on_body(body)

    def decline(self) -> None:
        """The request in hand did not come in one piece: it goes by ASGI, where an answer may come before its body."""
        if self._handler is not None:
            self._go_by_asgi()

    def on_message_complete(self) -> None:
        """Called when the request is complete: give it to its handler."""
        handler = self._handler
        if handler is None:
            super().on_message_complete()
            return
        before = self.cycle
        # a process that drains has `connection: close` among the default headers (http/server.py), and no other
        keep_alive = self.parser.should_keep_alive() and not self.server_state.default_headers
        response = DeferredResponse(self, keep_alive=keep_alive)
        # from here on a request that was sent without waiting for the answer is queued, as uvicorn does it
        self.cycle = cast(Any, response)
        try:
            is_taken = handler(self.headers, self._piece, response)
        except Exception:
            _log.exception("a handler failed; the request goes by ASGI")
            is_taken = False
        if is_taken:
            self._handler = None
        else:
            self.cycle = before
            self._go_by_asgi()
            super().on_message_complete()

    def shutdown(self) -> None:
        """Called when the server stops. The response to a request that has begun is sent first."""
        self.decline()
        super().shutdown()

    def _go_by_asgi(self) -> None:
        self._handler = None
        self._begin_asgi()
        if self._piece:
            super().on_body(self._piece)

    def _begin_asgi(self) -> None:
        url, headers, expect_100_continue = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect_100_continue
        # the list that the new scope has
        self.headers.extend(headers)
        super().on_headers_complete()
