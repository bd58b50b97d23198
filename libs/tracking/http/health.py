"""Liveness and readiness of a process, and the routes that show them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tracking.domain.errors import Unavailable
from tracking.http.json_api import render_json

Ping = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Health:
    """The state of a process that its liveness and readiness routes report.

    `pings` must all succeed for readiness; a failure of an `optional` one is reported but does not make the process
    unready. Loops report to `beat`. A loop that is silent past its deadline makes the process not alive, so that it is
    restarted.
    """

    service: str
    pings: Mapping[str, Ping]
    optional_pings: Mapping[str, Ping] = field(default_factory=dict)
    is_stopping: bool = False
    _beats: dict[str, tuple[float, float]] = field(default_factory=dict)

    def record_heartbeat(self, loop: str, deadline_s: float) -> None:
        """Record that `loop` is alive and will report again within `deadline_s`."""
        self._beats[loop] = (time.monotonic(), deadline_s)

    def find_late_loops(self) -> list[str]:
        """Return the loops that are past their deadline."""
        now = time.monotonic()
        return sorted(name for name, (last, deadline_s) in self._beats.items() if now - last > deadline_s)

    async def live(self, request: Request) -> Response:
        """200 while every loop reports in time, else 503."""
        late = self.find_late_loops()
        return render_json({"status": "late" if late else "live", "late": late}, 503 if late else 200)

    async def ready(self, request: Request) -> Response:
        """200 when everything needed answers, else 503 with what does not."""
        checks = await asyncio.gather(
            *(self._check(name, ping) for name, ping in {**self.pings, **self.optional_pings}.items())
        )
        answers = dict(checks)
        is_ready = not self.is_stopping and all(answers[name] == "ok" for name in self.pings)
        body = {
            "status": "stopping" if self.is_stopping else "ready" if is_ready else "unready",
            "checks": answers,
        }
        return render_json(body, 200 if is_ready else 503)

    async def _check(self, name: str, ping: Ping) -> tuple[str, str]:
        try:
            async with asyncio.timeout(3):
                await ping()
        except Unavailable as error:
            return name, error.message
        except TimeoutError:
            return name, "no answer within 3 s"
        return name, "ok"

    def make_routes(self) -> list[Route]:
        """Return the routes for liveness and readiness."""
        return [
            Route("/health/live", self.live),
            Route("/health/ready", self.ready),
            Route("/metrics", _metrics),
        ]


async def _metrics(request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
