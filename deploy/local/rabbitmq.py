"""A private RabbitMQ with its own epmd: one user, one virtual host, no guest, everything on loopback."""

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

from deploy.local import LocalStackError
from deploy.local.debian_packages import RABBITMQ_SERVER
from deploy.local.server import LOOPBACK, write_private

# The default user replaces guest: on a new node RabbitMQ makes this one and no other. The size of a message is limited
# as RabbitMQ 4 limits it by default; Debian's is older.
CONFIGURATION = """\
listeners.tcp.1 = {host}:{port}
default_user = tracking
default_pass = {password}
default_vhost = tracking
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 200MB
max_message_size = 16777216
"""
MANAGEMENT = """\
management.tcp.ip = {host}
management.tcp.port = {port}
"""


def ping(host: str, port: int) -> None:
    """Open the AMQP 0-9-1 handshake, answered once RabbitMQ has booted; raises OSError or LocalStackError."""
    with socket.create_connection((host, port), timeout=2) as connection:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        if connection.recv(1) != b"\x01":  # a method frame: Connection.Start
            raise LocalStackError("what listens there does not speak AMQP 0-9-1")


@dataclass(slots=True)
class Epmd:
    """Erlang's port mapper, which RabbitMQ needs. The stack starts it, so that stopping the stack ends it too."""

    port: int
    name: str = "epmd"
    user: str | None = None
    stop_signal: str = "TERM"

    def prepare(self) -> None:
        pass

    def command(self) -> list[str]:
        return ["epmd", "-port", str(self.port), "-address", LOOPBACK]

    def environment(self) -> dict[str, str]:
        return {}

    def ping(self) -> None:
        with socket.create_connection((LOOPBACK, self.port), timeout=2) as connection:
            connection.sendall(b"\x00\x01n")  # NAMES_REQ; it answers with its port first
            if connection.recv(4) != self.port.to_bytes(4):
                raise LocalStackError("what listens there is not epmd")


@dataclass(slots=True)
class RabbitMQ:
    """`folder` holds configuration, the node's data and the Erlang cookie."""

    folder: Path
    port: int
    epmd_port: int
    distribution_port: int
    password: str
    management_port: int | None = None
    name: str = "rabbitmq"
    user: str | None = None
    stop_signal: str = "TERM"

    def url(self, virtual_host: str = "tracking") -> str:
        """Where clients connect."""
        return f"amqp://tracking:{self.password}@{LOOPBACK}:{self.port}/{virtual_host}"

    @property
    def management_url(self) -> str | None:
        """The management API with its credentials, where it was asked for."""
        if self.management_port is None:
            return None
        return f"http://tracking:{self.password}@{LOOPBACK}:{self.management_port}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        plugins = "rabbitmq_management" if self.management_port else ""
        write_private(self.folder / "rabbitmq.conf", self._configuration())
        (self.folder / "enabled_plugins").write_text(f"[{plugins}].\n")
        (self.folder / "rabbitmq-env.conf").write_text("")

    def command(self) -> list[str]:
        return [str(RABBITMQ_SERVER)]

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": "tracking@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_PID_FILE": str(self.folder / "rabbitmq.pid"),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "CONFIGURATION_HASH": hashlib.sha256(self._configuration().encode()).hexdigest()[:16],
        }

    def ping(self) -> None:
        ping(LOOPBACK, self.port)

    def _configuration(self) -> str:
        text = CONFIGURATION.format(host=LOOPBACK, port=self.port, password=self.password)
        if self.management_port:
            text += MANAGEMENT.format(host=LOOPBACK, port=self.management_port)
        return text
