"""Finds and ends the processes that a killed supervisor leaves behind, which still hold ports and data."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.layout import HOME

MARK = "VOLCANION_LOCAL"
"""Every process under our supervisor has this in its environment; the value is the folder it belongs to."""
STOP_TIMEOUT_S = 20


def end(say: Callable[[str], None]) -> None:
    """End every process of this checkout's stack, those first that nothing else of it started."""
    found = _find_orphans()
    if found:
        say(f"ending {len(found)} processes of a supervisor that was killed")
    asked: set[int] = set()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while found:
        for pid in [pid for pid, parent in found.items() if parent not in found]:
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
            elif pid not in asked:
                asked.add(pid)
                _signal(pid, signal.SIGINT if _is_postgres(pid) else signal.SIGTERM)
        time.sleep(0.1)
        found = _find_orphans()


def _find_orphans() -> dict[int, int]:
    """`{pid: parent's pid}`."""
    mark = f"{MARK}={HOME}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                # the name in brackets may hold spaces; after it come state and parent (proc_pid_stat(5))
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found[int(folder.name)] = int(parent)
        except (OSError, ValueError):
            continue
    found.pop(os.getpid(), None)
    return found


def _is_postgres(pid: int) -> bool:
    """Asked with TERM, PostgreSQL would wait for its clients to leave."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
