"""The three servers as containers, by testcontainers; the tags are those of docker-compose.yml."""

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import cached_property

import docker  # type: ignore[import-untyped]
from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from deploy.local import postgres, rabbitmq, redis
from deploy.local.postgres import THROWAWAY_SETTINGS
from deploy.local.server import random_secret, wait_until
from tests.support.backing_services import REDIS_DATABASES, START_TIMEOUT_S

POSTGRES, REDIS, RABBITMQ = "postgres:18.6", "redis:7.4.9", "rabbitmq:4.3.5-management"


def engine_answers() -> bool:
    """Whether a Docker engine is to be had; asks no longer than a few seconds."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if host.startswith("unix://") and not _is_listening(host.removeprefix("unix://")):
        return False  # the client (7.2) leaks its socket when there is no engine, and warnings are errors here
    try:
        with closing(docker.from_env(timeout=3)) as client:
            return bool(client.ping())
    except DockerException:
        return False


def _is_listening(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def pull_missing(say: Callable[[str], None]) -> str | None:
    """Fetch the images that are not there; return why that failed, None when all are there."""
    try:
        with closing(docker.from_env(timeout=300)) as client:
            present = {tag for image in client.images.list() for tag in image.tags}
            for tag in (POSTGRES, REDIS, RABBITMQ):
                if tag not in present:
                    say(f"pulling {tag}")
                    client.images.pull(tag)
    except (DockerException, OSError) as error:
        return f"a Docker image cannot be pulled ({' '.join(str(error).split())[:200]})"
    return None


class Containers:
    """Each container starts when its address is first asked for, and is removed with its data at the end."""

    def __init__(self) -> None:
        # testcontainers' reaper is one more image to pull; close() removes what was started.
        testcontainers_config.ryuk_disabled = True
        self._running = ExitStack()
        self._password = random_secret()

    @cached_property
    def postgres_url(self) -> str:
        container = DockerContainer(POSTGRES).with_exposed_ports(5432).with_env("POSTGRES_PASSWORD", self._password)
        settings = THROWAWAY_SETTINGS | {"max_connections": "400"}
        flags = " ".join(f"-c {name}={value}" for name, value in settings.items())
        host, port = self._start(container.with_command(f"postgres {flags}"), 5432)
        url = f"postgresql://postgres:{self._password}@{host}:{port}/postgres"
        self._wait(lambda: postgres.ping(url))
        return url

    @cached_property
    def redis_url(self) -> str:
        container = DockerContainer(REDIS).with_exposed_ports(6379)
        command = f"redis-server --requirepass {self._password} --databases {REDIS_DATABASES}"
        host, port = self._start(container.with_command(command), 6379)
        url = f"redis://:{self._password}@{host}:{port}"
        self._wait(lambda: redis.ping(url))
        return url

    @property
    def rabbitmq_url(self) -> str:
        host, port = self._address(self._rabbitmq, 5672)
        return f"amqp://tracking:{self._password}@{host}:{port}/%2F"

    @property
    def rabbitmq_management_url(self) -> str | None:
        host, port = self._address(self._rabbitmq, 15672)
        return f"http://tracking:{self._password}@{host}:{port}"

    @cached_property
    def _rabbitmq(self) -> DockerContainer:
        container = DockerContainer(RABBITMQ).with_exposed_ports(5672, 15672)
        container = container.with_env("RABBITMQ_DEFAULT_USER", "tracking")
        container = container.with_env("RABBITMQ_DEFAULT_PASS", self._password)
        host, port = self._start(container, 5672)
        self._wait(lambda: rabbitmq.ping(host, port))
        return container

    def close(self) -> None:
        self._running.close()

    def _start(self, container: DockerContainer, port: int) -> tuple[str, int]:
        container.start()
        self._running.callback(container.stop)
        return self._address(container, port)

    @staticmethod
    def _address(container: DockerContainer, port: int) -> tuple[str, int]:
        # the engine maps IPv4 and IPv6 to different host ports, and "localhost" may mean either
        host = container.get_container_host_ip().replace("localhost", "127.0.0.1")
        return host, int(container.get_exposed_port(port))

    @staticmethod
    def _wait(ping: Callable[[], None]) -> None:
        wait_until(ping, timeout_s=START_TIMEOUT_S, alive=lambda: True)
