"""A private Redis: a cache with a password, nothing on disk; a restart loses only what is looked up again."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import redis

from deploy.local.server import LOOPBACK, write_private

CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
databases {databases}
dir {folder}
save ""
appendonly no
maxmemory 256mb
maxmemory-policy allkeys-lru
set-proc-title no
"""
"""No process title: it would overwrite the environment by which `up` finds what a killed supervisor left."""


def ping(url: str) -> None:
    """Log in and ask for an answer; raises redis.RedisError while there is none."""
    with redis.Redis.from_url(url, socket_timeout=2) as client:
        client.ping()


@dataclass(slots=True)
class Redis:
    """`folder` holds its configuration, which holds the password."""

    folder: Path
    port: int
    password: str
    databases: int = 16
    name: str = "redis"
    user: str | None = None
    stop_signal: str = "TERM"

    @property
    def url(self) -> str:
        """Where clients connect, without a database number."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        write_private(self._file, self._configuration())

    def command(self) -> list[str]:
        return ["redis-server", str(self._file)]

    def environment(self) -> dict[str, str]:
        return {"CONFIGURATION_HASH": hashlib.sha256(self._configuration().encode()).hexdigest()[:16]}

    def ping(self) -> None:
        ping(self.url)

    @property
    def _file(self) -> Path:
        return self.folder / "redis.conf"

    def _configuration(self) -> str:
        return CONFIGURATION.format(
            host=LOOPBACK,
            port=self.port,
            password=self.password,
            databases=self.databases,
            folder=f'"{self.folder}"',
        )
