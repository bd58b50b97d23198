"""The real servers behind the tests: those named in the environment, containers, or private local instances.

Each starts when a test first asks for its address, so that a run of a few tests pays only for what it uses.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeVar, assert_never
from urllib.parse import urlsplit

from deploy.local import LocalStackError, debian_packages
from deploy.local.postgres import SETTINGS, THROWAWAY_SETTINGS, Postgres
from deploy.local.rabbitmq import Epmd, RabbitMQ
from deploy.local.redis import Redis
from deploy.local.server import LOOPBACK, Server, identity, is_port_free, random_secret, wait_until

Kind = Literal["external", "containers", "local"]
Say = Callable[[str], None]
AnyServer = TypeVar("AnyServer", bound=Server)
REDIS_DATABASES = 64
START_TIMEOUT_S = 50
EXTERNAL_URLS = ("TRACKING_TEST_POSTGRES_URL", "TRACKING_TEST_REDIS_URL", "TRACKING_TEST_RABBITMQ_URL")
# below what systems give to outgoing connections, one of which would else sit on a port before its server listens
_PORTS = range(16_384, 32_768)
_MOST_CLAIMS = 256
_MEMORY = Path("/dev/shm")
_MEMORY_NEEDED = 4 << 30
_claims: deque[int] = deque()


class BackingServices(Protocol):
    """Where the servers are; reading an address starts its server if need be."""

    @property
    def postgres_url(self) -> str:
        """A superuser's, on the database `postgres`."""

    @property
    def redis_url(self) -> str:
        """Without a database number."""

    @property
    def rabbitmq_url(self) -> str:
        """An administrator's, on any virtual host."""

    @property
    def rabbitmq_management_url(self) -> str | None:
        """The management API with credentials; None where there is none."""

    def close(self) -> None:
        """End what was started here, and nothing else."""


def free_port() -> int:
    """A loopback port that nothing listens on, and that no other test run of this machine is given meanwhile.

    A UDP socket on the same number is the claim, as it leaves TCP alone; it lasts until 256 more ports were given.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket(type=socket.SOCK_DGRAM) as claim:
            try:
                claim.bind((LOOPBACK, port))
            except OSError:
                continue
            if not is_port_free(port):
                continue
            _claims.append(claim.detach())
        if len(_claims) > _MOST_CLAIMS:
            os.close(_claims.popleft())
        return port


def chosen_kind() -> tuple[Kind, str]:
    """Return the kind of servers that the environment asks for or allows, and the reason in a few words."""
    forced = os.environ.get("TRACKING_TEST_BACKING")
    if forced:
        kinds: dict[str, Kind] = {"external": "external", "containers": "containers", "local": "local"}
        if forced not in kinds:
            raise ValueError(f"TRACKING_TEST_BACKING is {forced!r}; it may be {', '.join(kinds)}")
        return kinds[forced], "TRACKING_TEST_BACKING says so"
    if any(os.environ.get(name) for name in EXTERNAL_URLS):
        return "external", "its URLs are in the environment"
    from tests.support.containers import engine_answers  # the Docker client is slow to import

    return ("containers", "a Docker engine answers") if engine_answers() else ("local", "no Docker engine answers")


def prepare(kind: Kind, say: Say) -> Kind:
    """Fetch images or packages, which takes minutes; without images, containers give way to local servers."""
    if kind == "containers":
        from tests.support.containers import pull_missing

        problem = pull_missing(say)
        if problem and os.environ.get("TRACKING_TEST_BACKING") == "containers":
            raise RuntimeError(problem)
        if problem:
            say(f"{problem}; using local servers")
            kind = "local"
    if kind == "local":
        debian_packages.ensure(say)
    return kind


def open_backing(kind: Kind) -> BackingServices:
    """Nothing is started yet."""
    match kind:
        case "external":
            return ExternalServices()
        case "containers":
            from tests.support.containers import Containers

            return Containers()
        case "local":
            return LocalServices()
        case _:
            assert_never(kind)


class ExternalServices:
    """Servers that someone else runs; databases and virtual hosts are made in them and dropped again."""

    def __init__(self) -> None:
        missing = [name for name in EXTERNAL_URLS if not os.environ.get(name)]
        if missing:
            raise ValueError(f"external servers need all of {', '.join(EXTERNAL_URLS)}; not set: {', '.join(missing)}")
        self.postgres_url = os.environ[EXTERNAL_URLS[0]]
        self.redis_url = os.environ[EXTERNAL_URLS[1]].rstrip("/")
        self.rabbitmq_url = os.environ[EXTERNAL_URLS[2]]

    @property
    def rabbitmq_management_url(self) -> str | None:
        """As the environment says, else the standard port of the same host."""
        amqp = urlsplit(self.rabbitmq_url)
        default = f"http://{amqp.username or 'guest'}:{amqp.password or 'guest'}@{amqp.hostname}:15672"
        return os.environ.get("TRACKING_TEST_RABBITMQ_MANAGEMENT_URL", default)

    def close(self) -> None:
        pass


class LocalServices:
    """Private instances of the installed servers in a temporary folder, gone when the tests end."""

    def __init__(self, *, is_durable: bool = False) -> None:
        """`is_durable` costs time on the disk, as it does for a user: benchmarks want it, tests do not."""
        self._is_durable = is_durable
        self._folder = Path(
            tempfile.mkdtemp(prefix=f"tracking-tests-{os.getpid()}-", dir=None if is_durable else _memory_folder())
        )
        self._folder.chmod(0o755)  # as root, PostgreSQL runs as another user and must get in
        self._running = ExitStack()
        self._running.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self._started: dict[str, tuple[Server, subprocess.Popen[bytes]]] = {}

    @cached_property
    def postgres_url(self) -> str:
        settings = SETTINGS | ({} if self._is_durable else THROWAWAY_SETTINGS) | {"max_connections": "400"}
        return self._start(Postgres(self._folder / "postgres", free_port(), random_secret(), settings=settings)).url(
            "postgres"
        )

    @cached_property
    def redis_url(self) -> str:
        return self._start(Redis(self._folder / "redis", free_port(), random_secret(), REDIS_DATABASES)).url

    @property
    def rabbitmq_url(self) -> str:
        return self._rabbitmq.url()

    @property
    def rabbitmq_management_url(self) -> str | None:
        return self._rabbitmq.management_url

    @cached_property
    def _rabbitmq(self) -> RabbitMQ:
        epmd = self._start(Epmd(free_port()))
        folder = self._folder / "rabbitmq"
        server = RabbitMQ(folder, free_port(), epmd.port, free_port(), random_secret(), management_port=free_port())
        return self._start(server)

    def close(self) -> None:
        self._running.close()

    @property
    def rabbitmq(self) -> RabbitMQ:
        """The server itself, for those who run its command line tools."""
        return self._rabbitmq

    def pid(self, name: str) -> int:
        """Of `postgres`, `redis` or `rabbitmq`; its process group has the same number."""
        return self._started[name][1].pid

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone. PostgreSQL's own children see its end and go by themselves."""
        process = self._started[name][1]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Its orderly end, as its service manager would ask for it."""
        server, process = self._started[name]
        process.send_signal(getattr(signal, f"SIG{server.stop_signal}"))
        process.wait(timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what a server leaves behind would hold its files

    def set_max_connections(self, number: int | None) -> None:
        """Restart PostgreSQL with this `max_connections`, or with that of its settings again."""
        server = self._started["postgres"][0]
        assert isinstance(server, Postgres)
        server.settings["max_connections"] = SETTINGS["max_connections"] if number is None else str(number)
        self.stop("postgres")
        self.start_again("postgres")

    def start_again(self, name: str) -> None:
        """On the same port, data and password, after `kill` or `stop`; returns once it answers.

        Called from the main thread: a server dies with the thread that started it.
        """
        server, process = self._started[name]
        assert process.poll() is not None, f"{name} still runs"
        until = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._start(server)
                return
            except LocalStackError:
                # the last children of a killed PostgreSQL keep its shared memory for a moment
                if time.monotonic() > until:
                    raise

    def _start(self, server: AnyServer) -> AnyServer:
        server.prepare()
        log = self._folder / f"{server.name}.log"
        # a test run that is killed takes its servers along
        guard = ["setpriv", "--pdeathsig", server.stop_signal, "--"] if shutil.which("setpriv") else []
        with log.open("a") as output:
            process = subprocess.Popen(
                [*guard, *server.command()],
                env={"PATH": os.environ["PATH"]} | server.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
                **identity(server.user),
            )
        self._started[server.name] = server, process
        self._running.callback(_end, process, server.stop_signal)
        try:
            wait_until(server.ping, timeout_s=START_TIMEOUT_S, alive=lambda: process.poll() is None)
        except Exception as error:
            error.add_note(f"{server.name}: the last of its log:\n{log.read_text()[-3000:]}")
            raise
        return server


def _memory_folder() -> str | None:
    """Where files are in memory and a database is copied in half the time; None where there is too little room.

    What earlier runs left there goes, as nobody would look for it: a run that is killed removes nothing itself.
    """
    if not _MEMORY.is_dir():
        return None
    for left in _MEMORY.glob("tracking-tests-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return str(_MEMORY) if shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED else None


def _end(process: subprocess.Popen[bytes], stop_signal: str) -> None:
    """PostgreSQL is asked, for it would leave shared memory behind; the others hold nothing of worth."""
    if process.returncode is not None:
        return  # its number may be another's by now
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        if stop_signal == "INT":
            process.send_signal(signal.SIGINT)
            process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
