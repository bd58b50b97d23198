"""Installs the Debian packages of the servers where they are missing, without starting the machine's own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local import LocalStackError

POSTGRES_VERSIONS = Path("/usr/lib/postgresql")
RABBITMQ_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# By exiting 101 this forbids packages to start services (invoke-rc.d(8), Debian Policy 9.3.3).
POLICY = Path("/usr/sbin/policy-rc.d")
UNITS = {"postgresql": "postgresql", "redis-server": "redis-server", "rabbitmq-server": "rabbitmq-server"}


def missing() -> list[str]:
    """Names of the packages whose server is not on this machine."""
    present = {
        "postgresql": any(POSTGRES_VERSIONS.glob("*/bin/postgres")),
        "redis-server": bool(shutil.which("redis-server")),
        "rabbitmq-server": RABBITMQ_SERVER.exists(),
    }
    return [name for name, is_present in present.items() if not is_present]


def ensure(say: Callable[[str], None]) -> None:
    """Install what is missing; raise LocalStackError naming the packages where that may not be or fails."""
    names = missing()
    if not names:
        return
    root, result = install(names, say)
    still_missing = missing()
    if still_missing:
        raise LocalStackError(
            f"apt-get could not install {', '.join(still_missing)}:\n{result[-2000:]}\n{_wish(names)}"
        )
    _keep_from_starting_at_boot(root, names)


def install(names: Sequence[str], say: Callable[[str], None]) -> tuple[list[str], str]:
    """Install Debian packages, starting no service; how root is reached, and what apt-get said.

    Raises LocalStackError where that may not be; whether it went well is for the caller to look.
    """
    if not shutil.which("apt-get"):
        raise LocalStackError(
            f"{', '.join(names)} missing, and this is no Debian or Ubuntu: install them and try again"
        )
    root = _as_root()
    if root is None:
        raise LocalStackError(f"{', '.join(names)} missing, and neither root nor sudo is available; {_wish(names)}")
    say(f"installing {', '.join(names)}")
    with _daemons_forbidden(root):
        _run([*root, "apt-get", "update", "-qq"])  # an old list will do, so failure is ignored
        command = [
            "apt-get",
            "install",
            "-y",
            "-qq",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=300",
        ]
        return root, _run([*root, "env", "DEBIAN_FRONTEND=noninteractive", *command, *names])


def _wish(names: Sequence[str]) -> str:
    return f"install these packages and try again: apt-get install {' '.join(names)}"


def _as_root() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    sudo = ["sudo"] if sys.stdin.isatty() else ["sudo", "-n"]
    return sudo if subprocess.run([*sudo, "true"], capture_output=not sys.stdin.isatty()).returncode == 0 else None


def _run(command: list[str]) -> str:
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return result.stdout


@contextmanager
def _daemons_forbidden(root: list[str]) -> Iterator[None]:
    if POLICY.exists():  # the administrator's own policy stands
        yield
        return
    script = f"printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}"
    subprocess.run([*root, "sh", "-c", script], check=True)
    try:
        yield
    finally:
        subprocess.run([*root, "rm", "-f", str(POLICY)], check=True)


def _keep_from_starting_at_boot(root: list[str], names: list[str]) -> None:
    """Disable only the units that this installation brought. Units that existed before are left alone."""
    if Path("/run/systemd/system").exists():
        _run([*root, "systemctl", "disable", *(UNITS[name] for name in names)])
