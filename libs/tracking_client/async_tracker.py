"""`AsyncTracker` for asyncio. A task sends while events wait. This module decides nothing about events."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
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
from tracking_client.tracker import SenderThread
from tracking_client.tracking_methods import EncodedEvent, PutError, TrackingMethods

_log = logging.getLogger(__name__)


class AsyncTracker(TrackingMethods):
    """Tracks from one event loop; `track` and the other tracking methods are plain calls that only queue an event.

    Use it as an async context manager. Events that are left when the loop has ended are sent at the end of the program,
    without asyncio. `httpx_options` go to `httpx.AsyncClient`. Otherwise as Tracker.
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
        self._gateway = GatewayEndpoint(url, api_key, options, httpx_options or {})
        self._random = SystemRandom()
        self._is_closed = False
        self._client = self._gateway.make_async_client()
        self._reset()
        lifetime.register(self)

    def _reset(self) -> None:
        self._buffer = Buffer(self._options)
        self._delivery: Delivery | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def at_fork(self) -> None:
        """Start empty in the forked child: the queued events belong to the parent."""
        self._reset()
        self._client = self._gateway.make_async_client()
        self._reporter.reset()

    def at_exit(self) -> None:
        """Send the events that are left as a Tracker does, because no event loop runs any more."""
        sender = SenderThread(self._gateway, self._reporter)
        sender.take_over(self._take_left())
        sender.close(self._options.close_timeout_s)

    async def flush(self, timeout_s: float = 10.0) -> bool:
        """Send all events tracked so far; True once each of them has ended and its callback has returned."""
        target = self._buffer.flush()
        self._start()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._buffer.done_count < target:
                    self._progress.clear()
                    await self._progress.wait()
        return self._buffer.done_count >= target

    async def close(self, timeout_s: float | None = None) -> bool:
        """Send all queued events and take no more; False if time ran out and some went to `on_error` as `unsent`."""
        self._is_closed = True
        self._buffer.flush()
        self._start()
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=self._options.close_timeout_s if timeout_s is None else timeout_s)
            task.cancel()
            await asyncio.wait({task})
        await self._client.aclose()
        left = self._take_left()
        self._report(make_unsent_failures(left))
        lifetime.release(self)
        return not left

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _put(self, event: EncodedEvent) -> PutError | None:
        if self._is_closed:
            return "closed"
        if not self._buffer.put(event, time.monotonic()):
            return "queue_full"
        lifetime.keep(self)
        with suppress(RuntimeError):  # no loop runs here: sent with the next call, or at the end of the program
            self._start()
        return None

    def _start(self) -> None:
        """Raises RuntimeError without a running loop."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:  # connections and tasks stay with their loop
                self._client = self._gateway.make_async_client()
                self._buffer.requeue(self._withdraw())
                self._task = None
            self._loop = loop
            self._changed, self._progress = asyncio.Event(), asyncio.Event()
        if len(self._buffer) and (self._task is None or self._task.done()):
            self._task = loop.create_task(self._run(), name="tracking-client")
        self._changed.set()

    async def _run(self) -> None:
        """Send batches until no event waits."""
        try:
            while (due_in_s := self._buffer.due_in_s(time.monotonic())) is not None:
                if due_in_s > 0:
                    self._changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(due_in_s):
                            await self._changed.wait()
                    continue
                self._delivery = Delivery(self._buffer.take(time.monotonic()), self._options, self._random)
                await self._deliver(self._delivery)
        except Exception:
            _log.exception("sending failed; it begins anew with the next event")
        finally:
            self._buffer.requeue(self._withdraw())
            if not len(self._buffer):
                lifetime.release(self)

    async def _deliver(self, delivery: Delivery) -> None:
        while (step := delivery.step(time.monotonic())) is not None:
            if isinstance(step, Pause):
                self._reporter.count_retry()
                await asyncio.sleep(step.seconds)
            else:
                self._report(delivery.handle_response(await self._post(step), time.monotonic()))

    async def _post(self, post: Post) -> GatewayResponse:
        try:
            return read_response(await self._client.post(**self._gateway.build_request(post)))
        except httpx.HTTPError as error:
            return make_no_response(error)

    def _withdraw(self) -> list[EncodedEvent]:
        return self._delivery.withdraw() if self._delivery is not None else []

    def _take_left(self) -> list[EncodedEvent]:
        return [*self._withdraw(), *self._buffer.take_all()]

    def _report(self, outcomes: list[Any]) -> None:
        self._reporter.report(outcomes)
        self._buffer.mark_done(len(outcomes))
        if self._loop is not None:
            self._progress.set()
