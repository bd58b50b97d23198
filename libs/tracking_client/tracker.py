"""`Tracker` for programs with threads. A daemon thread sends. This module decides nothing about events."""

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from random import SystemRandom
from types import TracebackType
from typing import Any, Self

import httpx

from tracking_client import lifetime
from tracking_client.buffer import Buffer
from tracking_client.delivery import Delivery, GatewayResponse, Pause, Post, make_unsent_failures
from tracking_client.gateway_http import GatewayEndpoint, make_no_response, read_response
from tracking_client.options import Options
from tracking_client.outcome import OnError, OnStored, OutcomeReporter
from tracking_client.tracking_methods import EncodedEvent, PutError, TrackingMethods

_log = logging.getLogger(__name__)
# an operation on a socket may have begun just before the end
_JOIN_MARGIN_S = 1.0
_MIN_TIMEOUT_S = 0.001


class Tracker(TrackingMethods):
    """Tracks from any thread. Use it as a context manager, or let the end of the program send the events that are left.

    `httpx_options` go to `httpx.Client`: `verify`, `proxy` and so on. `on_stored` and `on_error` are called in the
    sending thread, `on_error` also in the thread that calls `track`. A forked child has an empty queue and a thread of
    its own; what was queued before the fork is the parent's. Raises ValueError for a bad address, key or option.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        options: Options | None = None,
        *,
        on_error: OnError | None = None,
        on_stored: OnStored | None = None,
        httpx_options: Mapping[str, Any] | None = None,
    ) -> None:
        options = options or Options()
        super().__init__(options, OutcomeReporter(on_stored, on_error))
        self._sender = SenderThread(GatewayEndpoint(url, api_key, options, httpx_options or {}), self._reporter)
        # a tracker that is forgotten still sends what it holds, then its thread ends
        weakref.finalize(self, self._sender.finish).atexit = False

    def flush(self, timeout_s: float = 10.0) -> bool:
        """Send all events tracked so far; True once each of them has ended and its callback has returned."""
        return self._sender.flush(timeout_s)

    def close(self, timeout_s: float | None = None) -> bool:
        """Send all queued events and take no more; False if time ran out and some went to `on_error` as `unsent`."""
        return self._sender.close(self._options.close_timeout_s if timeout_s is None else timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put(self, event: EncodedEvent) -> PutError | None:
        return self._sender.put(event)


class SenderThread:
    """The queue of a tracker and the thread that empties it. It holds no Tracker, so that one can be collected."""

    def __init__(self, gateway: GatewayEndpoint, reporter: OutcomeReporter) -> None:
        self._gateway = gateway
        self._options = gateway.options
        self._reporter = reporter
        self._random = SystemRandom()
        self._is_closed = False
        self._client: httpx.Client | None = gateway.make_client()
        self._reset()
        lifetime.register(self)

    def _reset(self) -> None:
        # reentrant, as a signal handler or the garbage collector may come in between
        self._changed = threading.Condition(threading.RLock())
        self._buffer = Buffer(self._options)
        self._delivery: Delivery | None = None
        self._thread: threading.Thread | None = None
        self._deadline: float | None = None

    def at_fork(self) -> None:
        """Start empty in the forked child, and leave the parent's connections open."""
        self._reset()
        self._client = None
        self._reporter.reset()

    def at_exit(self) -> None:
        """Close within the time of the options."""
        self.close(self._options.close_timeout_s)

    def put(self, event: EncodedEvent) -> PutError | None:
        """Queue the event, or return why not."""
        with self._changed:
            if self._is_closed:
                return "closed"
            now = time.monotonic()
            if not self._buffer.put(event, now):
                return "queue_full"
            lifetime.keep(self)
            self._start()
            if len(self._buffer) == 1 or self._buffer.due_in_s(now) == 0:
                self._changed.notify_all()  # else the thread knows when it is due
        return None

    def take_over(self, events: list[EncodedEvent]) -> None:
        """Queue events that another tracker has left, without regard to the bounds; `close` sends them."""
        with self._changed:
            self._buffer.requeue(events)

    def flush(self, timeout_s: float) -> bool:
        """See Tracker."""
        with self._changed:
            target = self._buffer.flush()
            if len(self._buffer):
                self._start()
            self._changed.notify_all()
            if self._thread is threading.current_thread():
                return self._buffer.done_count >= target  # in a callback: nothing is sent while it waits
            return self._changed.wait_for(lambda: self._buffer.done_count >= target, timeout_s)

    def finish(self) -> None:
        """Take no more events; the thread ends when all are sent."""
        with self._changed:
            self._is_closed = True
            self._buffer.flush()
            self._changed.notify_all()

    def close(self, timeout_s: float) -> bool:
        """See Tracker."""
        with self._changed:
            self.finish()
            self._deadline = time.monotonic() + timeout_s
            thread = self._thread
        if thread is threading.current_thread():
            return False  # in a callback: the thread goes on when it returns
        if thread is None:
            self._run()  # no thread was needed, or none could be started at the end of the program
        else:
            thread.join(timeout_s + _JOIN_MARGIN_S)
        with self._changed:
            left = [*(self._delivery.withdraw() if self._delivery else ()), *self._buffer.take_all()]
        self._report(make_unsent_failures(left))
        lifetime.release(self)
        return not left

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="tracking-client", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # the program is ending: at_exit sends it
            self._thread = None

    def _run(self) -> None:
        try:
            client = self._client = self._client or self._gateway.make_client()
            while (delivery := self._wait_for_batch()) is not None:
                self._deliver(client, delivery)
        except Exception:
            _log.exception("sending failed; it begins anew with the next event")
        with self._changed:
            if self._delivery is not None:
                self._buffer.requeue(self._delivery.withdraw())
            self._thread = None
            if not len(self._buffer):
                lifetime.release(self)
                if self._is_closed and self._client is not None:
                    self._client.close()
            self._changed.notify_all()

    def _wait_for_batch(self) -> Delivery | None:
        """Wait until a batch is due and take it; None when the thread must end."""
        with self._changed:
            while not self._is_too_late():
                due_in_s = self._buffer.due_in_s(time.monotonic())
                if due_in_s == 0:
                    self._delivery = Delivery(self._buffer.take(time.monotonic()), self._options, self._random)
                    return self._delivery
                if due_in_s is None and self._is_closed:
                    return None
                self._changed.wait(due_in_s)
        return None

    def _deliver(self, client: httpx.Client, delivery: Delivery) -> None:
        while not self._is_too_late() and (step := delivery.step(time.monotonic())) is not None:
            if isinstance(step, Pause):
                self._reporter.count_retry()
                self._pause(step.seconds)
                continue
            response = self._post(client, step)
            with self._changed:
                outcomes = delivery.handle_response(response, time.monotonic())
            self._report(outcomes)

    def _post(self, client: httpx.Client, post: Post) -> GatewayResponse:
        timeout_s = max(_MIN_TIMEOUT_S, min(self._options.timeout_s, self._left_s()))
        try:
            return read_response(client.post(**self._gateway.build_request(post), timeout=timeout_s))
        except httpx.HTTPError as error:
            return make_no_response(error)

    def _report(self, outcomes: list[Any]) -> None:
        self._reporter.report(outcomes)
        with self._changed:
            self._buffer.mark_done(len(outcomes))
            self._changed.notify_all()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        with self._changed:
            while (left_s := min(until - time.monotonic(), self._left_s())) > 0:
                self._changed.wait(left_s)

    def _left_s(self) -> float:
        return threading.TIMEOUT_MAX if self._deadline is None else self._deadline - time.monotonic()

    def _is_too_late(self) -> bool:
        return self._left_s() <= 0
