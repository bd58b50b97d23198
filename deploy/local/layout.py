"""The layout of the local stack: its files, its ports, the number of its processes, and its secrets."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import LocalStackError
from deploy.local.server import random_secret, write_private
from deploy.local.services import MAX_PROCESSES, ROLES, SERVICES, get_service

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".local"
# below 32768, where Linux begins to give ports to outgoing connections
SERVER_PORTS = {
    "postgres": 15432,
    "redis": 16379,
    "rabbitmq": 15673,
    "epmd": 14369,
    "rabbitmq_distribution": 14370,
}
SECRETS = ("postgres", "redis", "rabbitmq", *(f"role_{role}" for role in ROLES))
INHERITED_VARIABLES = ("TRACKING_LOG_LEVEL", "TRACKING_OTLP_ENDPOINT", "TRACKING_TRACE_SAMPLE_RATIO")
"""Settings that a developer may give to all services by setting them for `make up`."""
PORT_OFFSET_VARIABLE = "TRACKING_LOCAL_PORT_OFFSET"
MAX_SOCKET_PATH_CHARACTERS = 100
"""Linux allows 107 bytes (unix(7)); supervisor adds its pid while it makes the socket."""


def port_variable(name: str) -> str:
    """The environment variable that moves this port."""
    return f"TRACKING_LOCAL_{name.upper()}_PORT"


@dataclass(slots=True)
class Layout:
    """`ports` by server and service, `processes` by service, `secrets` by server, role and token.

    `passed_on` are environment variables that all services get.
    """

    ports: dict[str, int]
    processes: dict[str, int]
    secrets: dict[str, str]
    passed_on: dict[str, str]

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> "Layout":
        """As saved by the last `up`; with `environ`, which only `up` gives, ports and settings follow it."""
        saved = _read_json(HOME / "settings.json")
        ports = {name: int(port) for name, port in saved.get("ports", {}).items()}
        processes = {name: int(count) for name, count in saved.get("processes", {}).items()}
        return cls(
            ports_from(ports, environ or {}),
            {name: processes.get(name, 1) for name in SERVICES},
            _read_json(HOME / "secrets.json"),
            saved.get("passed_on", {})
            if environ is None
            else {name: environ[name] for name in INHERITED_VARIABLES if name in environ},
        )

    def save(self) -> None:
        """Keep ports and counts, and make the secrets that do not exist yet."""
        for name in SECRETS:
            self.secrets.setdefault(name, random_secret())
        self.secrets.setdefault("admin_token", f"tk_{random_secret()}")
        write_private(HOME / "secrets.json", json.dumps(self.secrets, indent=1))
        settings = {"ports": self.ports, "processes": self.processes, "passed_on": self.passed_on}
        (HOME / "settings.json").write_text(json.dumps(settings, indent=1))

    def service_port(self, service: str, index: int) -> int:
        """The port of a service's process, counted from 0; the further ones move as far as the first was moved."""
        definition = SERVICES[service]
        if index == 0:
            return self.ports[service]
        moved = self.ports[service] - definition.port
        return definition.second_port + moved + (index - 1) * definition.step

    def scale(self, service: str, count: str) -> None:
        """Raises LocalStackError for a service or a count that cannot be."""
        get_service(service)
        if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= MAX_PROCESSES:
            raise LocalStackError(f"N is {count!r}; it may be 1 to {MAX_PROCESSES}")
        self.processes[service] = int(count)

    @property
    def configuration(self) -> Path:
        """Supervisor's; it holds every secret."""
        return HOME / "supervisord.conf"

    @property
    def credentials(self) -> Path:
        """The credentials file, with all values that a person or a script needs to use the system."""
        return HOME / "credentials.env"

    @property
    def socket(self) -> Path:
        """Where supervisor listens; outside the checkout only when its path is too long for a socket."""
        inside = HOME / "supervisor.sock"
        if len(os.fsencode(inside)) <= MAX_SOCKET_PATH_CHARACTERS:
            return inside
        return Path(f"/var/tmp/volcanion-tracking-{os.geteuid()}-{checkout_hash()}.sock")  # noqa: S108 - mode 700

    def log(self, program: str) -> Path:
        """Where a program's output goes."""
        return HOME / "logs" / f"{program}.log"


def checkout_hash() -> str:
    """A short name for this checkout, for what has to live outside of it."""
    return hashlib.sha256(os.fsencode(ROOT)).hexdigest()[:12]


def source_hash() -> str:
    """Changes with anything a service is made of, so that `up` restarts what runs old code."""
    files = [ROOT / "requirements.lock"]
    for folder in ("libs", "services"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".sql", ".json")]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(os.fsencode(path) + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@contextmanager
def hold_lock() -> Iterator[None]:
    """Two commands at once on one checkout would start everything twice; the second waits."""
    HOME.mkdir(mode=0o755, exist_ok=True)
    with (HOME / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ports_from(saved: Mapping[str, int], environ: Mapping[str, str]) -> dict[str, int]:
    """A port's own variable wins, then the offset for all, then the last start's, then the default."""
    defaults = SERVER_PORTS | {name: service.port for name, service in SERVICES.items()}
    ports = {}
    for name, default in defaults.items():
        if port_variable(name) in environ:
            ports[name] = _number(port_variable(name), environ, 1)
        elif PORT_OFFSET_VARIABLE in environ:
            ports[name] = default + _number(PORT_OFFSET_VARIABLE, environ, -8000)
        else:
            ports[name] = saved.get(name, default)
        if not 1 <= ports[name] <= 65535:
            raise LocalStackError(
                f"{ports[name]} is no port for {name}; see {PORT_OFFSET_VARIABLE} and {port_variable(name)}"
            )
    return ports


def _number(name: str, environ: Mapping[str, str], least: int) -> int:
    try:
        number = int(environ[name])
    except ValueError:
        number = least - 1
    if not least <= number <= 65535:
        raise LocalStackError(f"{name} is {environ[name]!r}; it must be a whole number")
    return number


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise LocalStackError(f"{path} is damaged ({error}); `make clean` starts afresh") from error
    return content if isinstance(content, dict) else {}
