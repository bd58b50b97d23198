"""The life of a process: health, metrics, signals, and an end in order.

On SIGTERM: readiness turns false at once, traffic goes on for `drain_delay_s` so that load balancers notice, each
answer the last of its connection. Then the server stops taking connections and finishes its requests, and the caller's
resources close in reverse.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, Self

import uvicorn
import uvloop
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tracking.domain.errors import Unavailable
from tracking.http.deadlines import Deadlines, Sweep, protocol_for, raise_file_limit
from tracking.http.edge import json_response
from tracking.http.protocol import Handler
from tracking.infra import metrics

_log = logging.getLogger(__name__)
Ping = Callable[[], Awaitable[None]]
# a group of the worst size on a slow disk takes a few seconds; a wait for the database says so in between
_WORK_DEADLINE_S = 60.0
_GC_YOUNG, _GC_MIDDLE, _GC_OLD = 20_000, 20, 50


@dataclass(slots=True)
class Health:
    """What the two health routes answer.

    `pings` are asked for readiness; `optional` ones are reported but do not make the process unready. Loops report to
    `beat`; one that is silent past its deadline makes the process not alive, so that it is started again.
    """

    service: str
    pings: Mapping[str, Ping]
    optional: Mapping[str, Ping] = field(default_factory=dict)
    stopping: bool = False
    _beats: dict[str, tuple[float, float]] = field(default_factory=dict)

    def beat(self, loop: str, deadline_s: float) -> None:
        """`loop` is alive and will say so again within `deadline_s`."""
        self._beats[loop] = (time.monotonic(), deadline_s)

    def late_loops(self) -> list[str]:
        """Loops that are past their deadline."""
        now = time.monotonic()
        return sorted(name for name, (last, deadline_s) in self._beats.items() if now - last > deadline_s)

    async def live(self, request: Request) -> Response:
        """200 while every loop reports in time, else 503."""
        late = self.late_loops()
        return json_response({"status": "late" if late else "live", "late": late}, 503 if late else 200)

    async def ready(self, request: Request) -> Response:
        """200 when everything needed answers, else 503 with what does not."""
        checks = await asyncio.gather(
            *(self._check(name, ping) for name, ping in {**self.pings, **self.optional}.items())
        )
        answers = dict(checks)
        is_ready = not self.stopping and all(answers[name] == "ok" for name in self.pings)
        body = {
            "status": "stopping" if self.stopping else "ready" if is_ready else "unready",
            "checks": answers,
        }
        return json_response(body, 200 if is_ready else 503)

    async def _check(self, name: str, ping: Ping) -> tuple[str, str]:
        try:
            async with asyncio.timeout(3):
                await ping()
        except Unavailable as error:
            return name, error.message
        except TimeoutError:
            return name, "no answer within 3 s"
        return name, "ok"

    def routes(self) -> list[Route]:
        """The routes every process has."""
        return [
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/metrics", _metrics),
        ]


async def _metrics(request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


class _Server(uvicorn.Server):
    """uvicorn, told by us when to stop: its own handlers would stop it before anyone could notice."""

    def __init__(self, config: uvicorn.Config, service: str) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        _log.info("%s listens on %s:%s", self._service, self.config.host, self.config.port)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _ListeningSettings(Protocol):
    host: str
    port: int
    drain_delay_s: float
    shutdown_grace_s: float
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    header_bytes: int
    connections: int


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a process listens, how long it waits for a client, and how long it takes to stop."""

    host: str
    port: int
    drain_delay_s: float
    shutdown_grace_s: float
    deadlines: Deadlines

    @classmethod
    def of(cls, settings: _ListeningSettings) -> Self:
        """The part of a process's settings that is about listening."""
        return cls(
            settings.host, settings.port, settings.drain_delay_s, settings.shutdown_grace_s, Deadlines.of(settings)
        )


async def serve(
    app: ASGIApp, health: Health, listening: Listening, direct: Mapping[str, Handler] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once. Raises OSError if the port is taken.

    `direct` are paths that infra.direct answers, with what takes them.
    """
    metrics.register_process_metrics()
    sweep = Sweep(listening.deadlines)
    server = _Server(
        uvicorn.Config(
            app,
            host=listening.host,
            port=listening.port,
            loop="none",
            http=protocol_for(direct or {}, listening.deadlines, sweep),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=4096,
            timeout_graceful_shutdown=max(1, int(listening.shutdown_grace_s)),
        ),
        health.service,
    )
    stop = asyncio.Event()

    def on_signal() -> None:
        server.force_exit = stop.is_set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with asyncio.TaskGroup() as tasks:
        sweeping = tasks.create_task(sweep.run(server.server_state.connections))
        serving = tasks.create_task(_run(server, stop))
        serving.add_done_callback(lambda _: sweeping.cancel())
        await stop.wait()
        health.stopping = True
        # whoever keeps connections open goes elsewhere now, rather than send into one that is about to be closed
        server.config.encoded_headers.append((b"connection", b"close"))
        server.server_state.default_headers = server.config.encoded_headers
        _log.info("%s stops: finishing what is in hand", health.service)
        if not serving.done():
            await asyncio.sleep(listening.drain_delay_s)
        server.should_exit = True


async def serve_worker(
    service: str,
    work: Callable[[Callable[[], None]], Coroutine[None, None, None]],
    stop: Callable[[], None],
    *,
    pings: Mapping[str, Ping],
    settings: Listening,
    optional: Mapping[str, Ping] | None = None,
) -> None:
    """Run `work` beside its health and metrics; on SIGTERM call `stop` and wait for it to finish what is in hand.

    `work` is given a function to call at least once a minute, or the process counts as not alive.
    """
    health = Health(service, pings, optional or {})
    app = Starlette(routes=health.routes())
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work(lambda: health.beat("work", _WORK_DEADLINE_S)))
        await serve(app, health, settings)
        stop()
        try:
            await asyncio.wait_for(working, settings.shutdown_grace_s)
        except TimeoutError:
            _log.warning(
                "%s did not finish within %s s; what is in hand comes again",
                service,
                settings.shutdown_grace_s,
            )


async def _run(server: uvicorn.Server, stop: asyncio.Event) -> None:
    try:
        await server.serve()
    except SystemExit as error:
        # uvicorn exits on a taken port after logging it; as an exception it passes through our own closing
        raise OSError(f"cannot listen on {server.config.host}:{server.config.port}") from error
    finally:
        stop.set()


@contextlib.asynccontextmanager
async def running(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run loops beside the body; they are cancelled and awaited at its end, and the failure of one ends the body."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            # again and again: a library that catches a cancellation at the wrong moment must not hold up our end
            while left := [task for task in started if not task.done()]:
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=1)


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a process's main on uvloop; what an operator must mend (a setting, a taken port) ends it with one line."""

    # what was imported lives for ever, and a request makes few cycles: looking for them at Python's default pace
    # takes a tenth of the gateway's time (docs/benchmarks.md)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_YOUNG, _GC_MIDDLE, _GC_OLD)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except* ValidationError as errors:
        faults = "; ".join(_describe(error) for error in _leaves(errors))
        sys.exit(f"the settings in the environment are not complete: {faults}")
    except* OSError as errors:
        sys.exit("; ".join(str(error) for error in _leaves(errors)))


def _describe(error: BaseException) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # never the input: it may be a secret
    faults = error.errors(include_input=False)
    return "; ".join(
        ": ".join([*(f"TRACKING_{name}".upper() for name in fault["loc"][:1]), fault["msg"]]) for fault in faults
    )


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]
