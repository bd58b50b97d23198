"""The memory that the whole local stack uses: idle, as `make up` leaves it, and under load."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import uuid4

import httpx

from deploy.local.layout import SERVER_PORTS, port_variable
from deploy.local.services import SERVICES
from tests.load import measure
from tests.load.environment import BenchEnvironment
from tests.load.report import BenchRow
from tests.support.backing_services import free_port
from tests.support.polling import until
from tests.support.service_processes import ROOT

_MIB = 1024 * 1024
_SERVERS = ("postgres", "redis", "rabbitmq", "epmd")
# what a checkout must have for `make up`; its data goes into a folder of its own beside them
_CHECKOUT = ("deploy", "libs", "services", "requirements.lock")
_SAMPLE_INTERVAL_S = 0.25
# until what starting and working took is given back
_SETTLE_S = 1
_ASKERS = 8
_EVER = {"startDate": "2026-01-01T00:00:00Z", "endDate": "2100-01-01T00:00:00Z"}
# 55d0-5601 r-xp 00021000 fe:01 1234  /usr/bin/x: from, to, offset, device, inode (proc(5))
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ ([0-9a-f]+) (\S+) (\d+)")


@dataclass(frozen=True, slots=True)
class Use:
    """Of one process, or several, in bytes: resident, and resident with shared pages divided by who shares them."""

    rss: int = 0
    pss: int = 0

    def __add__(self, other: "Use") -> "Use":
        return Use(self.rss + other.rss, self.pss + other.pss)

    def most(self, other: "Use") -> "Use":
        """The larger of each."""
        return Use(max(self.rss, other.rss), max(self.pss, other.pss))


class Memory:
    """One round; `make up` in a folder and on ports of its own, with the settings that a user gets."""

    rounds = 1

    def __init__(self, room: BenchEnvironment) -> None:
        self._room = room
        self._seconds = 1.0 if room.is_quick else 8.0
        self._idle = BenchRow("memory: the whole local stack, idle", 1024, " MiB", is_ceiling=True)
        self._loaded = BenchRow("memory: the whole local stack, peak under load", None, " MiB")
        self._after = BenchRow("memory: the whole local stack, idle after load", 1024, " MiB", is_ceiling=True)
        self._remarks: list[str] = []

    @property
    def rows(self) -> Sequence[BenchRow]:
        """The sums; processes are remarks."""
        return self._idle, self._loaded, self._after

    @property
    def remarks(self) -> Sequence[str]:
        """Each program with its children."""
        return self._remarks

    async def round(self) -> None:
        """Idle first, then each way of asking for some seconds."""
        async with _local_stack() as stack:
            await asyncio.sleep(_SETTLE_S)
            idle = stack.by_program()
            self._idle.add(stack.total() / _MIB)
            peaks, total = await self._under_load(stack)
            self._loaded.add(total / _MIB)
            await asyncio.sleep(_SETTLE_S)
            self._after.add(stack.total() / _MIB)
        for name, use in idle.items():
            self._remarks.append(f"memory: {name:<11} idle {_shown(use)}, under load {_shown(peaks[name])}")

    async def _under_load(self, stack: "_LocalStack") -> tuple[dict[str, Use], int]:
        peaks, total = stack.by_program(), stack.total()
        work = asyncio.ensure_future(self._work(stack))
        while not work.done():
            await asyncio.wait([work], timeout=_SAMPLE_INTERVAL_S)
            peaks = {name: use.most(peaks[name]) for name, use in stack.by_program().items()}
            total = max(total, stack.total())
        await work
        return peaks, total

    async def _work(self, stack: "_LocalStack") -> None:
        """Single events, batches, then questions; AssertionError if a committed event is not counted in the end."""
        sent = 0
        for way in (measure.SINGLES, measure.BATCHES):
            url = stack.credentials["TRACKING_GATEWAY_URL"] + way.path
            body = way.body(stack.credentials["TRACKING_DEMO_API_KEY"])
            run = await measure.post(url, body, way.connections, self._seconds)
            sent += run.requests * way.events
        async with stack.client("QUERY") as client, stack.client("ADMIN") as admin:
            path = f"/api/events/partner-system/{stack.credentials['TRACKING_DEMO_SYSTEM_ID']}"
            await until(lambda: _counted(client, path), lambda counted: counted >= sent, deadline_s=60, every_s=0.5)
            async with asyncio.timeout(self._seconds + 30), asyncio.TaskGroup() as asking:
                until_s = asyncio.get_running_loop().time() + self._seconds
                for _ in range(_ASKERS):
                    asking.create_task(_ask(client, admin, path, until_s))


async def _counted(client: httpx.AsyncClient, path: str) -> int:
    response = await client.get(f"{path}/statistics", params=_EVER | {"includeBots": "true"})
    assert response.status_code == 200, response.text
    return int(response.json()["totalEvents"])


async def _ask(client: httpx.AsyncClient, admin: httpx.AsyncClient, path: str, until_s: float) -> None:
    while asyncio.get_running_loop().time() < until_s:
        await _counted(client, path)
        answers = [
            await client.get(path, params=_EVER | {"pageSize": "500"}),
            await admin.post("/api/partners", json={"name": "Load", "email": f"{uuid4()}@example.com"}),
            await admin.get("/api/partners"),
        ]
        assert all(answer.is_success for answer in answers), [answer.status_code for answer in answers]


class _LocalStack:
    """The processes below one supervisor, and the credentials of their services."""

    def __init__(self, home: Path) -> None:
        self._supervisor = int((home / "supervisord.pid").read_text())
        lines = (home / "credentials.env").read_text().splitlines()
        self.credentials = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))

    def client(self, service: Literal["ADMIN", "QUERY"]) -> httpx.AsyncClient:
        """To that service, allowed everything."""
        headers = {"Authorization": f"Bearer {self.credentials['TRACKING_ADMIN_TOKEN']}"}
        return httpx.AsyncClient(base_url=self.credentials[f"TRACKING_{service}_URL"], headers=headers, timeout=30)

    def end(self) -> None:
        """Without the order of `make down`, which takes seconds: the data goes anyway."""
        children = _children()
        processes = list(_family(self._supervisor, children))
        servers = [pid for pid in children.get(self._supervisor, []) if _name(pid) == "postgres"]
        backends = [pid for server in servers for pid in _family(server, children)]
        for pid in processes:
            with _until_it_ends():
                # PostgreSQL takes its backends along, and what it shared
                os.kill(pid, signal.SIGINT if pid in servers else 0 if pid in backends else signal.SIGKILL)
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in processes):
            assert time.monotonic() < deadline, "the local stack does not end"
            time.sleep(0.05)

    def by_program(self) -> dict[str, Use]:
        """Each with its children: `postgres` with its backends, `rabbitmq` with what Erlang starts."""
        children = _children()
        uses = {"supervisor": _use(self._supervisor)}
        for pid in children.get(self._supervisor, []):
            uses[_name(pid)] = sum(map(_use, _family(pid, children)), Use())
        return uses

    def total(self) -> int:
        """Bytes, each page once, and pages of files in full, though other processes of the machine have them too.

        The sum of PSS would be too low by what the servers of the benchmark itself share with these.
        """
        own = 0
        of_files: dict[tuple[str, ...], int] = {}
        for pid in _family(self._supervisor, _children()):
            for mapping, sizes in _mappings(pid):
                if mapping is None:
                    own += sizes["Pss"]
                    continue
                share = sizes["Rss"] - sizes["Anonymous"]
                of_files[mapping] = max(of_files.get(mapping, 0), share)
                own += sizes["Anonymous"]
        return own + sum(of_files.values())


@asynccontextmanager
async def _local_stack() -> AsyncIterator[_LocalStack]:
    """`make up`, in a folder that ends with it."""
    with tempfile.TemporaryDirectory(prefix="tracking-memory-") as folder:
        checkout = _checkout(Path(folder))
        ports = {port_variable(name): str(free_port()) for name in (*SERVER_PORTS, *SERVICES)}
        try:
            await asyncio.to_thread(_local, checkout, "up", ports)
            stack = _LocalStack(checkout / ".local")
        except BaseException:
            await asyncio.to_thread(_local, checkout, "clean", {})
            raise
        try:
            yield stack
        finally:
            stack.end()


def _checkout(folder: Path) -> Path:
    folder.chmod(0o755)  # as root, PostgreSQL runs as another user and must get in
    for name in _CHECKOUT:
        (folder / name).symlink_to(ROOT / name)
    return folder


def _local(checkout: Path, command: str, ports: dict[str, str]) -> None:
    """AssertionError with its output if it fails."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRACKING_")}
    result = subprocess.run(
        [sys.executable, "-m", "deploy.local", command],
        cwd=checkout,
        env=inherited | ports,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def _children() -> dict[int, list[int]]:
    """Of every process of the machine."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
        children.setdefault(parent, []).append(int(entry.parent.name))
    return children


def _family(pid: int, children: Mapping[int, Sequence[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _family(child, children)


def _name(pid: int) -> str:
    """Of a service or a server, by its command line."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    for service in SERVICES:
        if f"services.{service}" in words:
            return service
    program = Path(words[0]).name
    known = [server for server in _SERVERS if server in " ".join(words)]
    return known[0] if known else program


def _use(pid: int) -> Use:
    sizes: dict[str, int] = {}
    with _until_it_ends():
        sizes = dict(_sizes(Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()))
    return Use(sizes.get("Rss", 0), sizes.get("Pss", 0))


def _mappings(pid: int) -> Iterator[tuple[tuple[str, ...] | None, dict[str, int]]]:
    """Parse what is mapped and how much of it: a part of a file by device, inode, offset and length, else None."""
    lines: list[str] = []
    with _until_it_ends():
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    mapping: tuple[str, ...] | None = None
    sizes: dict[str, int] = {}
    for line in lines:
        found = _MAPPING.match(line)
        if found is None:
            sizes.update(_sizes([line]))
            continue
        if sizes:
            yield mapping, sizes
        first, last, offset, device, inode = found.groups()
        # shared memory has an inode too, and no device of a disk
        is_file = inode != "0" and not device.startswith("00:")
        mapping = (device, inode, offset, str(int(last, 16) - int(first, 16))) if is_file else None
        sizes = {}
    if sizes:
        yield mapping, sizes


def _sizes(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    for line in lines:
        if line.endswith(" kB"):
            name, number, _ = line.split()
            yield name.removesuffix(":"), int(number) * 1024


@contextmanager
def _until_it_ends() -> Iterator[None]:
    """A backend may be gone by the time it is looked at."""
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        return


def _shown(use: Use) -> str:
    return f"PSS {use.pss / _MIB:5.1f} MiB (RSS {use.rss / _MIB:5.1f})"
