"""The parts that all private servers share: ports, waiting, and files that only one user can read."""

import errno
import os
import pwd
import secrets
import socket
import string
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from deploy.local import LocalStackError

BASE62 = string.digits + string.ascii_letters
LOOPBACK = "127.0.0.1"


class Server(Protocol):
    """Can be prepared in a folder of its own, then run in the foreground by supervisor or by a test."""

    name: str
    port: int
    user: str | None
    """The system user to run as; None: whoever runs this."""
    stop_signal: str

    def prepare(self) -> None:
        """Write configuration, initialise data once, clear what a crash left; harmless while it runs."""

    def command(self) -> list[str]:
        """The command line; it holds no secret."""

    def environment(self) -> dict[str, str]:
        """The environment variables that the process needs beyond PATH and the like."""

    def ping(self) -> None:
        """Ask the server for an answer as a client would; raise while there is none."""


def random_secret(length: int = 32) -> str:
    """Base62, so that it needs no escaping in URLs, configuration files or shells."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def write_private(path: Path, text: str) -> None:
    """Replace a file that only its owner may read, never leaving half of it behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.rename(path)


def identity(user: str | None) -> dict[str, Any]:
    """Return arguments for subprocess that run the child as that user, without the groups of this process."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def run_as(user: str | None, command: list[str]) -> None:
    """Run to the end; raise LocalStackError with the output when it fails."""
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        **identity(user),
    )
    if result.returncode != 0:
        raise LocalStackError(f"{command[0]} failed:\n{result.stdout[-2000:]}")


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return False
    return True


def wait_until(ping: Callable[[], None], *, timeout_s: float, alive: Callable[[], bool]) -> float:
    """Call `ping` until it stops raising; return the seconds it took.

    Raises LocalStackError, with the last reason, when time is up or `alive` says that the process ended.
    """
    began = time.monotonic()
    while True:
        try:
            ping()
            return time.monotonic() - began
        except Exception as error:  # whatever a client raises while its server is still starting
            reason = " ".join(str(error).split()) or type(error).__name__
        if not alive():
            raise LocalStackError(f"the process ended ({reason})")
        if time.monotonic() - began > timeout_s:
            raise LocalStackError(f"not ready after {timeout_s:.0f} s ({reason})")
        time.sleep(0.05)
