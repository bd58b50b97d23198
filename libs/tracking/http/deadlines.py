"""Deadlines for HTTP connections, and JSON error responses to bytes that are not HTTP.

uvicorn waits without limit for the rest of a request and for a client to read its response, and accepts headers of any
length. Here each phase (headers, body, idle, response) has a deadline in total, so that a byte now and then does not
extend it. Instead of a timer per request, one task checks all connections about once a second; a deadline may therefore
be enforced up to two checks late. This costs something: a request by ASGI takes 1.16 times the CPU time that it takes
in uvicorn's own protocol (20.1 and 17.3 µs; docs/benchmarks.md, "Private members"). What is relied on in uvicorn is
listed in `protocol`.
"""

import asyncio
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import httptools

from tracking.domain.errors import TrackingError, Unavailable
from tracking.http.errors import HttpError, encode_closing_response
from tracking.http.protocol import FastPathHandler, FastPathProtocol
from tracking.infra import correlation, metrics

_NOTHING, _FIRST_BYTE, _HEADERS, _BODY = range(4)
_CHECK_INTERVAL_S = 1.0
_MAX_CHECKED_PER_RUN = 200
_MAX_PIPELINED_REQUESTS = 64
_OWN_FILES = 128  # descriptors that stay free for databases, Redis, the broker and logs


class _Settings(Protocol):
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    header_bytes: int
    connections: int


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds in total for each part of an exchange, and how much may wait; `header_bytes` also bounds trailers."""

    header_s: float
    body_s: float
    idle_s: float
    write_s: float
    header_bytes: int
    connections: int

    @classmethod
    def from_settings(cls, settings: _Settings) -> Self:
        """Build from a process's settings. The connections are limited to the files that the process may open."""
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.idle_timeout_s,
            settings.write_timeout_s,
            settings.header_bytes,
            min(settings.connections, max(1, files - _OWN_FILES)),
        )


class DeadlineChecker:
    """Checks the deadlines of all connections in a loop.

    `now` is a clock that is cheap to read. It is ahead by at most one check, so that no deadline is enforced early.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self.now = 0.0
        shortest_s = min(deadlines.header_s, deadlines.body_s, deadlines.idle_s, deadlines.write_s)
        self._pause_s = min(_CHECK_INTERVAL_S, shortest_s / 4)

    async def run(self, connections: Iterable[Any]) -> None:
        """Check until cancelled. `connections` are uvicorn's, of the class of `make_protocol_class`."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            self.now = now + self._pause_s
            for number, connection in enumerate(list(connections), 1):
                connection.expire(now)
                if not number % _MAX_CHECKED_PER_RUN:
                    await asyncio.sleep(0)  # thousands at once would hold up the requests
            await asyncio.sleep(self._pause_s)


class DeadlineProtocol(FastPathProtocol):
    """uvicorn's protocol, which also knows since when its connection waits, and for which part of a request."""

    deadlines: Deadlines
    checker: DeadlineChecker
    _reading = _FIRST_BYTE
    _since = 0.0  # of the present wait: for headers, for a body, for the next request
    _unsent_since = 0.0
    _is_first_piece = True
    _spare_bytes = 0  # that the message in hand may still bring beside its body
    _earlier: Any = None  # the request before the one that is being read
    _running: Any = None  # the request that others wait behind
    _broken: bytes | None = None  # what is to be sent before closing, after the answers that are still due

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called when a client has connected."""
        super().connection_made(transport)
        self._since = self.checker.now
        self._spare_bytes = self.deadlines.header_bytes
        if len(self.connections) > self.deadlines.connections:
            message = "This process has as many connections as it may have; try again."
            self._end(Unavailable("too_many_connections", message))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone. uvicorn tells only the last request; those before it would write to what is closed."""
        for cycle in (self._running, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with the next bytes of a request."""
        if self._broken is not None:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._end(HttpError(400, "malformed_http", "This is not a request of HTTP/1.1."))
        if self._reading:
            self._count(len(data))
            self.decline()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """The parser takes what follows an Upgrade for another protocol, or for the next request; it is the body.

        An upgrade may be ignored (RFC 9110, section 7.8). Java's HttpClient asks for one with every request.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._end(HttpError(400, "malformed_http", "This is no proxy."))
            return
        close = [] if self.parser.should_keep_alive() else [(b"connection", b"close")]
        kept = [header for header in self.headers if header[0] not in (b"connection", b"upgrade")]
        lines = b"".join(b"%b: %b\r\n" % header for header in (*kept, *close))
        version = self.parser.get_http_version().encode()
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, lines, rest))

    def _count(self, size: int) -> None:
        # the piece that a message begins in also holds the end of the one before it
        if self._is_first_piece:
            self._is_first_piece = False
            return
        self._spare_bytes -= size
        if self._spare_bytes < 0 and self._broken is None:
            message = f"More than {self.deadlines.header_bytes} bytes beside the body."
            self._end(HttpError(431, "headers_too_large", message))

    def on_message_begin(self) -> None:
        """Called at the first byte of a request."""
        if len(self.pipeline) > _MAX_PIPELINED_REQUESTS:
            raise ValueError("too many requests that did not wait for an answer")
        self._reading = _HEADERS
        self._since = self.checker.now
        self._is_first_piece = True
        self._spare_bytes = self.deadlines.header_bytes
        self._earlier = self.cycle
        if not self.pipeline:
            self._running = self.cycle
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; one behind the body (a trailer) came past everything that looked at the headers, so it is none.

        The rest is uvicorn's, without calling it for each header.
        """
        if self._reading == _HEADERS:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Called when all headers have arrived, which ends their deadline."""
        if self.parser.should_upgrade():
            return
        self._reading = _BODY
        self._since = self.checker.now
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body; chunks may be as small as makes them twice as long."""
        self._spare_bytes += 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called when the request is complete. No deadline applies to the time that a handler takes."""
        if self._reading == _HEADERS:
            return  # one with an upgrade, which the parser ends here
        self._reading = _NOTHING
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Called when a response was written. Does what uvicorn's method does, without its timer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if not self._reading:
            self._since = self.checker.now
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._broken is not None:
            self._write_and_close(self._broken)

    def expire(self, now: float) -> None:
        """End the connection if it has waited past its deadline. The checker calls this."""
        if self.transport.get_write_buffer_size():
            self._expire_unsent(now)
            return
        self._unsent_since = 0.0
        if not self.transport.is_closing():
            self._expire_wait(now, now - self._since)

    def _expire_wait(self, now: float, waited_s: float) -> None:
        deadlines = self.deadlines
        if self._reading == _BODY:
            if self.pipeline:
                self._since = now  # this process has paused reading, so the client is not late
            elif waited_s > deadlines.body_s:
                self._end(HttpError(408, "body_timeout", f"The body did not arrive within {deadlines.body_s:g} s."))
        elif self._reading == _HEADERS:
            if waited_s > deadlines.header_s:
                message = f"The headers did not arrive within {deadlines.header_s:g} s."
                self._end(HttpError(408, "header_timeout", message))
        elif self._reading == _FIRST_BYTE:
            if waited_s > deadlines.header_s:
                self._close("no_request")
        elif waited_s > deadlines.idle_s and (self.cycle is None or self.cycle.response_complete):
            self._close("idle")

    def _expire_unsent(self, now: float) -> None:
        if not self._unsent_since:
            self._unsent_since = now
        elif now - max(self._unsent_since, self._since) > self.deadlines.write_s:
            metrics.connections_ended.labels("answer_not_taken").inc()
            self.transport.abort()

    def _close(self, reason: str) -> None:
        metrics.connections_ended.labels(reason).inc()
        self.transport.close()

    def _end(self, error: TrackingError) -> None:
        """Send the error and close the connection, once the responses to earlier requests are written."""
        if self._broken is not None or self.transport.is_closing():
            return
        metrics.connections_ended.labels(error.code).inc()
        given = next((value for name, value in self.headers or () if name == b"x-correlation-id"), None)
        correlation_id = correlation.accept_or_generate(given.decode("latin-1") if given is not None else None)
        self._broken = encode_closing_response(error, correlation_id)
        is_begun = self._reading in (_HEADERS, _BODY)
        before = self._earlier if is_begun else self.cycle
        own = self.cycle if self._reading == _BODY and self.cycle is not self._earlier else None
        if own is not None:
            # a handler that reads the body learns that the client is gone
            own.disconnected = True
            own.message_event.set()
            if self.pipeline and self.pipeline[0][0] is own:
                self.pipeline.popleft()
        if own is not None and own.response_started:
            self.transport.close()
        elif before is not None and not before.response_complete:
            self.flow.pause_reading()
        else:
            self._write_and_close(self._broken)

    def _write_and_close(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()


def make_protocol_class(
    fast_path_handlers: Mapping[str, FastPathHandler], deadlines: Deadlines, checker: DeadlineChecker
) -> type[DeadlineProtocol]:
    """Return a class for uvicorn's `http` setting, with the handlers by path. `checker` must be run."""
    routes = {path.encode(): handler for path, handler in fast_path_handlers.items()}
    members = {"fast_path_handlers": routes, "deadlines": deadlines, "checker": checker}
    return type("ServiceProtocol", (DeadlineProtocol,), members)
