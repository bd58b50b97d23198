"""Serves HTTP until SIGTERM, then drains: for services, and for workers beside their work."""

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from tracking.http.deadlines import DeadlineChecker, Deadlines, make_protocol_class
from tracking.http.health import Health, Ping
from tracking.http.protocol import HTTPTOOLS, UVICORN, FastPathHandler
from tracking.infra import metrics

_log = logging.getLogger(__name__)
# a group of the worst size on a slow disk takes a few seconds; a wait for the database says so in between
_WORK_DEADLINE_S = 60.0


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would stop it before load balancers notice; `serve` stops it."""

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
class ServerOptions:
    """Where a process listens, how long it waits for a client, and how long it takes to stop."""

    host: str
    port: int
    drain_delay_s: float
    shutdown_grace_s: float
    deadlines: Deadlines

    @classmethod
    def from_settings(cls, settings: _ListeningSettings) -> Self:
        """The part of a process's settings that is about listening."""
        return cls(
            settings.host,
            settings.port,
            settings.drain_delay_s,
            settings.shutdown_grace_s,
            Deadlines.from_settings(settings),
        )


async def serve(
    app: ASGIApp,
    health: Health,
    listening: ServerOptions,
    fast_path_handlers: Mapping[str, FastPathHandler] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once. Raises OSError if the port is taken.

    `fast_path_handlers` are by path; they are not called if uvicorn or httptools is not the tested one.
    """
    metrics.register_process_metrics()
    is_as_tested = UVICORN.is_usable() and HTTPTOOLS.is_usable()
    checker = DeadlineChecker(listening.deadlines)
    protocol = make_protocol_class(fast_path_handlers or {}, listening.deadlines, checker) if is_as_tested else None
    server = _Server(_make_config(app, listening, protocol), health.service)
    stop = asyncio.Event()

    def on_signal() -> None:
        server.force_exit = stop.is_set()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    async with asyncio.TaskGroup() as tasks:
        checking = tasks.create_task(checker.run(server.server_state.connections if is_as_tested else ()))
        serving = tasks.create_task(_run(server, stop))
        serving.add_done_callback(lambda _: checking.cancel())
        await stop.wait()
        health.is_stopping = True
        if is_as_tested:
            # clients open their next connection elsewhere, rather than send into one that is about to be closed
            server.config.encoded_headers.append((b"connection", b"close"))
            server.server_state.default_headers = server.config.encoded_headers
        _log.info("%s stops: finishing what is in hand", health.service)
        if not serving.done():
            await asyncio.sleep(listening.drain_delay_s)
        server.should_exit = True


def _make_config(app: ASGIApp, listening: ServerOptions, protocol: type[asyncio.Protocol] | None) -> uvicorn.Config:
    """With `protocol`, or with uvicorn's own and the two limits that it has."""
    deadlines = listening.deadlines
    return uvicorn.Config(
        app,
        host=listening.host,
        port=listening.port,
        loop="none",
        http=protocol or "httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=4096,
        limit_concurrency=None if protocol else deadlines.connections + 1,
        timeout_keep_alive=math.ceil(deadlines.idle_s),
        timeout_graceful_shutdown=max(1, int(listening.shutdown_grace_s)),
    )


async def serve_worker(
    service: str,
    work: Callable[[Callable[[], None]], Coroutine[None, None, None]],
    stop: Callable[[], None],
    *,
    pings: Mapping[str, Ping],
    settings: ServerOptions,
    optional: Mapping[str, Ping] | None = None,
) -> None:
    """Run `work` beside its health and metrics; on SIGTERM call `stop` and wait for it to finish what is in hand.

    `work` is given a function to call at least once a minute, or the process counts as not alive.
    """
    health = Health(service, pings, optional or {})
    app = Starlette(routes=health.make_routes())
    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(work(lambda: health.record_heartbeat("work", _WORK_DEADLINE_S)))
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
        # uvicorn logs a port in use and exits; with an exception instead, the process closes its resources
        raise OSError(f"cannot listen on {server.config.host}:{server.config.port}") from error
    finally:
        stop.set()
