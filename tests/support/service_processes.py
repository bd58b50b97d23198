"""Real service processes for one test, on free ports, with the environment they would have in production."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from deploy.local.server import random_secret
from deploy.local.services import make_environment
from tests.support.backing_services import free_port
from tests.support.http_client import http_client
from tests.support.polling import PATIENCE_S
from tests.support.stack import Stack

ROOT = Path(__file__).parents[2]
READY_TIMEOUT_S = PATIENCE_S
STOP_TIMEOUT_S = PATIENCE_S


class ServiceProcesses:
    """The processes by name; a second one of a service is called `projector-2` and so on."""

    def __init__(self, stack: Stack, folder: Path, settings: Mapping[str, str]) -> None:
        self.admin_token = f"tk_{random_secret()}"
        self._stack = stack
        self._folder = folder
        self._settings = settings
        self._ports: dict[str, int] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def url(self, name: str) -> str:
        """Where the process listens, without a slash at the end."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def pid(self, name: str) -> int:
        """The process's id."""
        return self._processes[name].pid

    def log(self, name: str) -> str:
        """Everything the process has written so far, over all its starts."""
        return self._log_file(name).read_text()

    def is_running(self, name: str) -> bool:
        """Whether the process has not ended."""
        return self._processes[name].poll() is None

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send any signal, say SIGSTOP or SIGCONT."""
        self._processes[name].send_signal(number)

    def launch(self, *names: str) -> None:
        """Start processes without waiting; one that was started before keeps its port."""
        for name in names:
            service = name.partition("-")[0]
            port = self._ports.setdefault(name, free_port())
            settings = make_environment(service, self._stack, port, self.admin_token)
            guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
            with self._log_file(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [*guard, sys.executable, "-m", f"services.{service}"],
                    env=_inherited() | settings | {"TRACKING_DRAIN_DELAY_S": "0"} | dict(self._settings),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                )

    async def start(self, *names: str) -> None:
        """Start processes and wait until they are ready; AssertionError with the log if one is not in time."""
        self.launch(*names)
        for name in names:
            await self.ready(name)

    async def ready(self, name: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until `/health/ready` answers 200; AssertionError with the log if it does not in time."""
        answer = "no answer"
        try:
            async with asyncio.timeout(timeout_s), http_client(timeout=2) as client:
                while self.is_running(name):
                    try:
                        response = await client.get(f"{self.url(name)}/health/ready")
                        if response.status_code == 200:
                            return
                        answer = response.text
                    except httpx.TransportError as error:
                        answer = str(error)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            pass
        raise AssertionError(f"{name} is not ready: {answer}\n{self.log(name)[-4000:]}")

    async def stop(self, *names: str) -> None:
        """SIGTERM to all of them at once, then wait; AssertionError if one does not end, or not with 0."""
        for name in names:
            self.signal(name, signal.SIGTERM)
            self.signal(name, signal.SIGCONT)  # a stopped process would not hear the first
        for name in names:
            code = await self._wait(name)
            assert code == 0, f"{name} ended with {code}\n{self.log(name)[-4000:]}"

    async def kill(self, *names: str) -> None:
        """SIGKILL, and wait until they are gone."""
        for name in names:
            self.signal(name, signal.SIGKILL)
        for name in names:
            await self._wait(name)

    async def kill_all(self) -> None:
        """SIGKILL to everything that still runs."""
        await self.kill(*(name for name in self._processes if self.is_running(name)))

    async def end(self) -> None:
        """Stop the processes that still run; AssertionError if one ended without being stopped."""
        ended = [name for name, process in self._processes.items() if process.poll() not in (None, 0, -9)]
        try:
            await self.stop(*(name for name in self._processes if self.is_running(name)))
        finally:
            await self.kill_all()
        assert not ended, "\n".join(f"{name} ended by itself\n{self.log(name)[-4000:]}" for name in ended)

    def print_logs(self) -> None:
        """For pytest's report of a failure."""
        for name in self._processes:
            print(f"--- {name}\n{self.log(name)[-4000:]}")

    async def _wait(self, name: str) -> int:
        try:
            return await asyncio.to_thread(self._processes[name].wait, STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} did not end within {STOP_TIMEOUT_S} s\n{self.log(name)[-4000:]}") from None

    def _log_file(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@asynccontextmanager
async def run_services(
    stack: Stack, *names: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[ServiceProcesses]:
    """`async with running(stack, "gateway", "projector", "projector-2") as services:`; all are ready inside.

    `settings` are environment variables for all of them, `{"TRACKING_COMMIT_DEADLINE_S": "1"}`. Afterwards every
    process has been stopped by its id; when the test fails, their logs stand in its report.
    """
    with tempfile.TemporaryDirectory(prefix="tracking-services-") as folder:
        services = ServiceProcesses(stack, Path(folder), settings or {})
        try:
            await services.start(*names)
            yield services
        except BaseException:
            services.print_logs()
            await services.kill_all()
            raise
        await services.end()


def _inherited() -> dict[str, str]:
    """Return the environment of this process without the developer's own settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRACKING_")}
