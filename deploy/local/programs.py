"""The processes of the stack as programs of supervisor, in the order in which they start."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from deploy.local import LocalStackError, services
from deploy.local.layout import HOME, Layout, checkout_hash, source_hash
from deploy.local.postgres import Postgres, system_user
from deploy.local.rabbitmq import Epmd, RabbitMQ
from deploy.local.redis import Redis
from deploy.local.server import LOOPBACK, Server, identity


@dataclass(frozen=True, slots=True)
class Program:
    """`port_name` is what the port is called in TRACKING_LOCAL_<NAME>_PORT."""

    name: str
    port_name: str
    port: int
    command: list[str]
    environment: Mapping[str, str]
    ping: Callable[[], None]
    stop_signal: str = "TERM"
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of this checkout, and where services find them."""

    postgres: Postgres
    redis: Redis
    rabbitmq: RabbitMQ
    epmd: Epmd
    role_passwords: Mapping[str, str]

    @classmethod
    def of(cls, layout: Layout) -> "Servers":
        """Nothing is touched yet."""
        ports, secrets = layout.ports, layout.secrets
        return cls(
            Postgres((HOME / "postgres").resolve(), ports["postgres"], secrets["postgres"]),
            Redis(HOME / "redis", ports["redis"], secrets["redis"]),
            RabbitMQ(
                HOME / "rabbitmq",
                ports["rabbitmq"],
                ports["epmd"],
                ports["rabbitmq_distribution"],
                secrets["rabbitmq"],
            ),
            Epmd(ports["epmd"]),
            {name: secrets[f"role_{name}"] for name in services.ROLES if f"role_{name}" in secrets},
        )

    def in_order(self) -> list[Server]:
        """RabbitMQ would start a port mapper of its own if there were none."""
        return [self.epmd, self.postgres, self.redis, self.rabbitmq]

    @property
    def redis_url(self) -> str:
        return f"{self.redis.url}/0"

    @property
    def rabbitmq_url(self) -> str:
        return self.rabbitmq.url()

    def write_url(self, role: str) -> str:
        return self.postgres.url("tracking_write", f"tracking_{role}", self.role_passwords[role])

    def read_url(self, role: str) -> str:
        return self.postgres.url("tracking_read", f"tracking_{role}", self.role_passwords[role])

    def migration_environment(self) -> dict[str, str]:
        """For `python -m tracking.migrations`."""
        passwords = {f"TRACKING_DB_PASSWORD_{name.upper()}": word for name, word in self.role_passwords.items()}
        return passwords | {
            "TRACKING_WRITE_OWNER_URL": self.postgres.url("tracking_write"),
            "TRACKING_READ_OWNER_URL": self.postgres.url("tracking_read"),
        }


def link_postgres_folder(say: Callable[[str], None]) -> None:
    """Give PostgreSQL a folder that its user can reach; a checkout in /root is closed to everyone but root."""
    folder, user = HOME / "postgres", system_user()
    if folder.exists() or user is None:
        return
    reach = subprocess.run(["test", "-x", str(HOME)], cwd="/", **identity(user))
    if reach.returncode == 0:
        return
    outside = Path("/var/lib/volcanion-tracking") / checkout_hash()
    if outside.exists():  # its passwords went with an earlier .local, so nobody can use it
        spare = outside.with_name(f"{outside.name}.{outside.stat().st_mtime_ns}")
        say(f"postgres: data of an earlier .local moved to {spare}")
        outside.rename(spare)
    outside.mkdir(parents=True, mode=0o755)
    folder.unlink(missing_ok=True)
    folder.symlink_to(outside)


def server_programs(servers: Servers) -> list[Program]:
    """The three servers, and what RabbitMQ needs."""
    return [
        Program(
            server.name,
            server.name,
            server.port,
            server.command(),
            server.environment(),
            server.ping,
            server.stop_signal,
            server.user,
        )
        for server in servers.in_order()
    ]


def service_programs(layout: Layout, servers: Servers) -> list[Program]:
    """Each process of each service; the second of a service is called `projector-2`."""
    shared = layout.passed_on | {"SOURCE_HASH": source_hash(), "PYTHONUNBUFFERED": "1"}
    programs = []
    for service, count in layout.processes.items():
        for index in range(count):
            port = layout.service_port(service, index)
            settings = services.make_environment(service, servers, port, layout.secrets["admin_token"])
            name = service if index == 0 else f"{service}-{index + 1}"
            command = [sys.executable, "-m", f"services.{service}"]
            programs.append(Program(name, service, port, command, settings | shared, ready_check(port)))
    return programs


def ready_check(port: int) -> Callable[[], None]:
    """A ping that raises, with the process's own words, until `/health/ready` answers 200."""

    def check() -> None:
        try:
            with urlopen(f"http://{LOOPBACK}:{port}/health/ready", timeout=5):
                return
        except HTTPError as error:
            with error:
                raise LocalStackError(f"{error.code} {error.read(500).decode(errors='replace')}") from error

    return check
