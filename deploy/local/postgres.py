"""A private PostgreSQL: durable, on loopback only, with passwords; its data survives `make down`."""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from deploy.local import LocalStackError
from deploy.local.debian_packages import POSTGRES_VERSIONS
from deploy.local.server import LOOPBACK, run_as

# Sized for a developer's machine; what a 202 promises (fsync, synchronous_commit) stays on.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
THROWAWAY_SETTINGS = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB", "max_wal_size": "512MB"}
"""For databases thrown away after a test run: a killed server loses nothing, only a killed machine would."""


def ping(url: str) -> None:
    """Log in and ask for an answer; raises psycopg.Error while there is none."""
    with psycopg.connect(url, connect_timeout=2) as connection:
        connection.execute("select 1")


def system_user() -> str | None:
    """PostgreSQL refuses to run as root, so root lends it to the system user that its package made."""
    return "postgres" if os.geteuid() == 0 else None


@dataclass(slots=True)
class Postgres:
    """`folder` holds the data directory; it must be reachable for `user`."""

    folder: Path
    port: int
    password: str
    settings: dict[str, str] = field(default_factory=lambda: dict(SETTINGS))
    name: str = "postgres"
    user: str | None = field(default_factory=system_user)
    stop_signal: str = "INT"  # "fast": roll back and go; TERM would wait for every client to leave

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"

    def url(self, database: str, user: str = "postgres", password: str | None = None) -> str:
        """Where clients connect; the superuser unless told otherwise."""
        return f"postgresql://{user}:{password or self.password}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.user:
            shutil.chown(self.folder, self.user)
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        self._clear_stale_pid()

    def command(self) -> list[str]:
        options = self.settings | {"port": str(self.port)}
        if (self._programs().parent / "lib/pg_stat_statements.so").exists():
            options["shared_preload_libraries"] = "pg_stat_statements"
        flags = [part for name, value in sorted(options.items()) for part in ("-c", f"{name}={value}")]
        return [str(self._programs() / "postgres"), "-D", str(self.data), *flags]

    def environment(self) -> dict[str, str]:
        return {"LC_ALL": "C.UTF-8"}

    def ping(self) -> None:
        ping(self.url("postgres"))

    def _initialise(self) -> None:
        """initdb is given the password in a file, so that it stands on no command line."""
        shutil.rmtree(self.data, ignore_errors=True)  # an initdb that was interrupted
        with tempfile.NamedTemporaryFile("w", dir="/tmp") as file:
            file.write(self.password)
            file.flush()
            if self.user:
                shutil.chown(file.name, self.user)
            options = ["--username=postgres", f"--pwfile={file.name}", "--encoding=UTF8", "--locale=C.UTF-8"]
            auth = ["--auth-host=scram-sha-256", "--auth-local=reject", "--no-instructions"]
            run_as(self.user, [str(self._programs() / "initdb"), "-D", str(self.data), *options, *auth])

    def _programs(self) -> Path:
        """The directory of the version that made the data, else of the newest installed."""
        with contextlib.suppress(FileNotFoundError):
            made_by = (self.data / "PG_VERSION").read_text().strip()
            if (POSTGRES_VERSIONS / made_by / "bin/postgres").exists():
                return POSTGRES_VERSIONS / made_by / "bin"
            raise LocalStackError(f"{self.data} was made by PostgreSQL {made_by}, which is not installed any more")
        installed = [path.parent for path in POSTGRES_VERSIONS.glob("*/bin/postgres")]
        if not installed:
            raise LocalStackError("PostgreSQL is not installed")
        return max(installed, key=lambda programs: float(programs.parent.name))

    def _clear_stale_pid(self) -> None:
        """After a reboot the pid may be another process's, and PostgreSQL would refuse to start."""
        file = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, IndexError):
            pid = file.read_text().split()[0]
            try:
                is_ours = Path(f"/proc/{pid}/cwd").resolve(strict=True) == self.data.resolve()
            except OSError:
                is_ours = False
            if not is_ours:
                file.unlink()
