"""Supervisor, which runs all processes of the stack: its configuration and the calls that the stack makes to it."""

import http.client
import os
import resource
import shlex
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import LocalStackError
from deploy.local.layout import HOME, ROOT, Layout
from deploy.local.orphans import MARK
from deploy.local.programs import Program
from deploy.local.server import wait_until, write_private

STOP_WAIT_S = 30
OPEN_FILES = 65536
HEAD = """\
; made by `make up`; changes are overwritten
[unix_http_server]
file={socket}
chmod=0700

[supervisord]
logfile={home}/logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={home}/supervisord.pid
directory={root}
minfds={files}
nocleanup=true
umask=077
{user}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""
# Nothing starts by itself: `up` starts what others need first, and waits for it.
PROGRAM = """
[program:{name}]
command={command}
environment={environment}
directory={directory}
autostart=false
autorestart=true
startsecs=2
startretries=3
stopsignal={stop_signal}
stopwaitsecs={stop_wait_s}
killasgroup=true
redirect_stderr=true
stdout_logfile={log}
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=2
{user}
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A program as supervisor sees it; `state` is one of its names (STOPPED, STARTING, RUNNING, FATAL, …)."""

    name: str
    state: str
    pid: int
    uptime_s: int

    @property
    def is_up(self) -> bool:
        return self.state in ("STARTING", "RUNNING")


def keep_logs_private(folder: Path) -> None:
    """Make the folder of the logs if it is missing, and let only its owner read it: logs hold people's addresses."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    for file in folder.iterdir():
        file.chmod(0o600)


class Supervisor:
    """The supervisor of this checkout."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def answers(self) -> bool:
        """Whether it runs."""
        try:
            self._call("getState")
        except OSError:
            return False
        return True

    def configure(self, programs: Iterable[Program]) -> None:
        """Write the configuration; a running supervisor reads it at `changes`."""
        keep_logs_private(HOME / "logs")
        text = HEAD.format(
            socket=_escaped(self._layout.socket),
            home=_escaped(HOME),
            root=_escaped(ROOT),
            files=min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
            user="user=root" if os.geteuid() == 0 else "",
        )
        write_private(self._layout.configuration, text + "".join(map(self._program, programs)))

    def launch(self) -> None:
        """Start it in the background; raises LocalStackError with its words when it does not start."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._layout.configuration)]
        kept = ("PATH", "HOME", "LANG", "TZ", "SSL_CERT_FILE")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment[MARK] = str(HOME)
        result = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT
        )
        if result.returncode != 0:
            raise LocalStackError(f"supervisor does not start:\n{result.stdout}{result.stderr}")
        wait_until(lambda: self._call("getState"), timeout_s=10, alive=lambda: True)

    def processes(self) -> dict[str, Process]:
        """By name."""
        return {
            info["name"]: Process(info["name"], info["statename"], info["pid"], max(0, info["now"] - info["start"]))
            for info in self._call("getAllProcessInfo")
        }

    def changes(self) -> tuple[list[str], list[str], list[str]]:
        """Read the configuration again: names of programs that are new, changed, and gone."""
        ((added, changed, removed),) = self._call("reloadConfig")
        return added, changed, removed

    def apply(self, added: Sequence[str], changed: Sequence[str], removed: Sequence[str]) -> None:
        """Take over what `changes` named; what is changed or gone has been stopped, nothing is started."""
        for name in (*changed, *removed):
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def start(self, name: str) -> None:
        """Without waiting."""
        self._call("startProcess", name, False)

    def stop(self, names: Iterable[str], stopped: Callable[[str, float], None]) -> None:
        """Stop at the same time those of them that run; call `stopped(name, seconds)` as each has ended."""
        running = {"STARTING", "RUNNING", "BACKOFF", "STOPPING"}
        states = self.processes()
        waiting = [name for name in names if name in states and states[name].state in running]
        began = time.monotonic()
        for name in waiting:
            if states[name].state != "STOPPING":
                self._call("stopProcess", name, False)
        while waiting:
            time.sleep(0.05)
            states = self.processes()
            for name in [name for name in waiting if states[name].state not in running]:
                waiting.remove(name)
                stopped(name, time.monotonic() - began)

    def shut_down(self) -> None:
        """End supervisor itself, and wait until it is gone."""
        pid = self._call("getPID")
        self._call("shutdown")
        deadline = time.monotonic() + STOP_WAIT_S
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _program(self, program: Program) -> str:
        environment = ",".join(f'{name}="{_escaped(value)}"' for name, value in program.environment.items())
        return PROGRAM.format(
            name=program.name,
            command=_escaped(shlex.join(program.command)),
            environment=environment,
            directory="/" if program.user else _escaped(ROOT),
            stop_signal=program.stop_signal,
            stop_wait_s=STOP_WAIT_S,
            log=_escaped(self._layout.log(program.name)),
            user=f"user={program.user}" if program.user else "",
        )

    def _call(self, method: str, *arguments: object) -> Any:
        """Raises OSError when supervisor does not run or does not answer, LocalStackError when it returns an error."""
        with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self._layout.socket)) as proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                raise LocalStackError(f"supervisor: {method} {arguments}: {fault.faultString}") from fault
            except (http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
                raise OSError(str(error)) from error


def _escaped(value: object) -> str:
    """Supervisor expands %(names)s, and has no way to write a double quote inside of one."""
    text = str(value)
    if '"' in text or "\n" in text:
        raise LocalStackError(f"supervisor cannot be told {text!r}: no double quotes, please")
    return text.replace("%", "%%")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _Connection(self._path)
