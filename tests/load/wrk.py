"""Runs wrk as the load generator. It uses a small part of a core, where one in Python would be the bottleneck."""

import os
import re
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{body}", "rb")
wrk.body = file:read("*a")
file:close()
{pause}
"""
# a late answer belongs into the 99th percentile; wrk's own 2 s would have it among the broken connections
_TIMEOUT_S = 30
_PAUSE = "function delay() return math.random(0, {most_ms}) end"


@dataclass(frozen=True, slots=True)
class Run:
    """The counts of wrk. `cpu_s` is wrk's own use; `other` counts responses that were neither 2xx nor 3xx."""

    requests: int
    seconds: float
    other: int
    broken: int
    p99_ms: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return self.requests / self.seconds


def ensure() -> None:
    """Install wrk from the system's packages if it is missing."""
    if shutil.which("wrk") is None:
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "wrk"]
        subprocess.run(command, check=os.geteuid() == 0, stdout=subprocess.DEVNULL)
    if shutil.which("wrk") is None:
        raise SystemExit("make bench needs wrk: install it with `apt-get install wrk` and try again")


def post(url: str, body: bytes, *, connections: int, seconds: float, threads: int = 1, pause_ms: int = 0) -> Run:
    """Send `body` over and over on `connections` kept-alive connections for `seconds`.

    Each waits `pause_ms` (on average, evenly spread) before a request, which its time does not count.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory(prefix="tracking-wrk-") as folder:
        (Path(folder) / "body").write_bytes(body)
        script = Path(folder) / "post.lua"
        pause = _PAUSE.format(most_ms=2 * pause_ms) if pause_ms else ""
        script.write_text(_SCRIPT.format(body=Path(folder) / "body", pause=pause))
        options = [f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", f"--timeout={_TIMEOUT_S}s", "--latency"]
        command = ["wrk", *options, "-s", str(script), url]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _parse(text, cpu_s)


def _parse(text: str, cpu_s: float) -> Run:
    total = re.search(r"(\d+) requests in ([\d.]+)(s|m)", text)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    if total is None or p99 is None:
        raise RuntimeError(f"wrk said something else:\n{text}")
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Run(
        requests=int(total[1]),
        seconds=float(total[2]) * (60 if total[3] == "m" else 1),
        other=int(other[1]) if other else 0,
        broken=sum(int(number) for number in errors.groups()) if errors else 0,
        p99_ms=float(p99[1]) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[p99[2]],
        cpu_s=cpu_s,
    )
