"""The SDKs under test: how each is run, and what has to be installed for it."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local import LocalStackError, debian_packages
from tests.sdks.calls import Call, calls
from tests.support.service_processes import ROOT

NODE = Path(__file__).parent / "node"
TIMEOUT_S = 180.0
_PYTHON = (sys.executable, "-m", "tests.sdks.python_client")
_BROWSER = (sys.executable, "-m", "tests.sdks.browser")
_PROGRAMS = {"node": "nodejs", "npm": "npm", "chromium": "chromium"}


@dataclass(frozen=True, slots=True)
class Sdk:
    """One of them; `name` is that of its package in its registry. The command reads a task and prints what it sent."""

    name: str
    command: Sequence[str]
    lacks: frozenset[str] = frozenset()
    """The kinds of calls that it does not have."""
    can_be_known: bool = True
    """Whether it can be told who somebody is without an identify."""

    @property
    def file_name(self) -> str:
        """Of what was captured of it."""
        return re.sub(r"\W+", "-", self.name).strip("-") + ".json"


PYTHON = (
    Sdk("segment-analytics-python", (*_PYTHON, "segment")),
    Sdk("rudder-sdk-python", (*_PYTHON, "rudderstack")),
)
SDKS = (
    *PYTHON,
    Sdk("@segment/analytics-node", ("node", str(NODE / "send.mjs"), "segment")),
    Sdk("@rudderstack/rudder-sdk-node", ("node", str(NODE / "send.mjs"), "rudderstack")),
    Sdk("@segment/analytics-next", _BROWSER),
    Sdk("@segment/analytics-next, batching", (*_BROWSER, "batching")),
    Sdk("@rudderstack/analytics-js", (*_BROWSER, "rudderstack"), frozenset({"screen"}), can_be_known=False),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """The report of an SDK's program: an id for each call, in their order."""

    version: str
    message_ids: Sequence[str]


def calls_of(sdk: Sdk, number: int) -> list[Call]:
    """The calls that the SDK can make, so many of them."""
    return calls(number, sdk.lacks, can_be_known=sdk.can_be_known)


async def send(sdk: Sdk, url: str, key: str, calls: Sequence[Call]) -> Sent:
    """Run it until it has sent everything; AssertionError with its own words if it gives up or takes too long."""
    task = json.dumps({"url": url, "key": key, "calls": calls})
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *sdk.command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=ROOT, env={**os.environ, "NO_PROXY": "*"}
    )
    try:
        said, errors = await asyncio.wait_for(process.communicate(task.encode()), TIMEOUT_S)
    except TimeoutError:
        raise AssertionError(f"{sdk.name} has not sent everything within {TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{sdk.name} ended with {process.returncode}: {errors.decode()[-2000:]}"
    result = json.loads(said)
    return Sent(result["version"], result["messageIds"])


def prepare(say: Callable[[str], None]) -> None:
    """Install Node, npm and Chromium where they are missing, and the locked npm packages; LocalStackError if not."""
    missing = _missing_packages()
    if missing:
        _, said = debian_packages.install(missing, say)
        if _missing_packages():
            raise LocalStackError(f"apt-get could not install {', '.join(_missing_packages())}:\n{said[-2000:]}")
    lock, installed = NODE / "package-lock.json", NODE / "node_modules/.package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    say(f"installing the npm packages of {lock.relative_to(ROOT)}")
    # their install scripts only compile what makes other uses of them faster
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    subprocess.run(command, cwd=NODE, check=True)


def _missing_packages() -> list[str]:
    return [package for program, package in _PROGRAMS.items() if not shutil.which(program)]
