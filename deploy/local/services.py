"""The six services: their ports and their environments. Each process gets only the addresses that it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from deploy.local import LocalStackError

Need = Literal["write", "read", "redis", "rabbitmq", "admin_token"]
MAX_PROCESSES = 16


class Addresses(Protocol):
    """Where the servers are, as a service with that database role would reach them."""

    @property
    def redis_url(self) -> str: ...

    @property
    def rabbitmq_url(self) -> str: ...

    def write_url(self, role: str) -> str:
        """The write database."""

    def read_url(self, role: str) -> str:
        """The read database."""


@dataclass(frozen=True, slots=True)
class Service:
    """`port` is the first process's; the second's is `second_port`, and each further one's `step` higher."""

    port: int
    second_port: int
    step: int
    needs: frozenset[Need]


SERVICES: Mapping[str, Service] = {
    "gateway": Service(8001, 8101, 1, frozenset({"write", "redis", "rabbitmq"})),
    "admin": Service(8002, 8201, 1, frozenset({"write", "redis", "admin_token"})),
    "query": Service(8003, 8301, 1, frozenset({"write", "read", "redis"})),
    "projector": Service(9102, 9112, 10, frozenset({"read", "rabbitmq"})),
    "statistics": Service(9103, 9113, 10, frozenset({"read", "rabbitmq"})),
    "relay": Service(9104, 9114, 10, frozenset({"write", "read", "rabbitmq"})),
}

# Roles in the databases: those of the services, and that of an operator's commands.
ROLES = (*SERVICES, "operate")


def get_service(name: str) -> Service:
    """Raises LocalStackError, which lists the names, for any other."""
    if name not in SERVICES:
        raise LocalStackError(f"there is no service {name!r}; there are {', '.join(SERVICES)}")
    return SERVICES[name]


def make_cli_environment(addresses: Addresses) -> dict[str, str]:
    """The settings of `python -m services.cli`."""
    return {
        "TRACKING_WRITE_DATABASE_URL": addresses.write_url("operate"),
        "TRACKING_READ_DATABASE_URL": addresses.read_url("operate"),
    }


def make_environment(name: str, addresses: Addresses, port: int, admin_token: str) -> dict[str, str]:
    """The settings of one process, listening on loopback."""
    needs = SERVICES[name].needs
    settings = {"TRACKING_HOST": "127.0.0.1", "TRACKING_PORT": str(port), "TRACKING_ENVIRONMENT": "local"}
    if "write" in needs:
        settings["TRACKING_WRITE_DATABASE_URL"] = addresses.write_url(name)
    if "read" in needs:
        settings["TRACKING_READ_DATABASE_URL"] = addresses.read_url(name)
    if "redis" in needs:
        settings["TRACKING_REDIS_URL"] = addresses.redis_url
    if "rabbitmq" in needs:
        settings["TRACKING_RABBITMQ_URL"] = addresses.rabbitmq_url
    if "admin_token" in needs:
        settings["TRACKING_ADMIN_TOKEN"] = admin_token
    return settings
