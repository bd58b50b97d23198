"""The Python client sends to a real gateway from programs that end, fork or forget it."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.integration.test_client import sender, services, stored_ids  # noqa: F401
from tests.support.polling import PATIENCE_S
from tests.support.registry import Registered
from tests.support.service_processes import ROOT, ServiceProcesses
from tests.support.stack import Stack

THREADS = """
import sys
from tracking_client import Tracker
tracker = Tracker(sys.argv[1], sys.argv[2])
for number in range(700):
    print(tracker.track("e", user_id="u"))
"""
# its thread sends what it holds, then ends
FORGOTTEN = """
import sys, threading
from tracking_client import Tracker
for _ in range(3):
    tracker = Tracker(sys.argv[1], sys.argv[2])
    print(tracker.track("e", user_id="u"))
    del tracker
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join(10)
assert threading.active_count() == 1
"""
ASYNCIO = """
import asyncio, sys
from tracking_client import AsyncTracker
tracker = AsyncTracker(sys.argv[1], sys.argv[2])
async def main():
    for number in range(700):
        print(tracker.track("e", user_id="u"))
        await asyncio.sleep(0)
asyncio.run(main())
"""
WITHOUT_A_LOOP = """
import sys
from tracking_client import AsyncTracker
tracker = AsyncTracker(sys.argv[1], sys.argv[2])
print(tracker.track("e", user_id="u"))
"""
# unclosed, its connections end with their loop
LOOP_AFTER_LOOP = """
import asyncio, sys, warnings
warnings.simplefilter("ignore", ResourceWarning)
from tracking_client import AsyncTracker
tracker = AsyncTracker(sys.argv[1], sys.argv[2])
async def main():
    print(tracker.track("e", user_id="u"))
    assert await tracker.flush()
asyncio.run(main())
asyncio.run(main())
assert tracker.counts.stored == 2
"""
AT_THE_VERY_END = """
import atexit, sys
from tracking_client import Tracker
tracker = Tracker(sys.argv[1], sys.argv[2])
atexit.register(lambda: print(tracker.track("e", user_id="u")))
"""
# each child has a thread and connections of its own; nothing of the parent's is sent by a child
FORKS = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from tracking_client import Tracker
tracker = Tracker(sys.argv[1], sys.argv[2])
def track(count):
    for number in range(count):
        os.write(1, tracker.track("e", user_id="u").encode() + b"\\n")
track(3)
assert tracker.flush()
track(20)
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        track(30)
        assert tracker.flush()
        os._exit(0 if (tracker.counts.stored, tracker.counts.duplicates) == (30, 0) else 1)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
assert tracker.close()
assert (tracker.counts.stored, tracker.counts.duplicates, tracker.counts.retries) == (23, 0, 0)
"""


@pytest.mark.parametrize(
    ("program", "count"),
    [
        (THREADS, 700),
        (FORGOTTEN, 3),
        (ASYNCIO, 700),
        (WITHOUT_A_LOOP, 1),
        (LOOP_AFTER_LOOP, 2),
        (AT_THE_VERY_END, 1),
        (FORKS, 113),
    ],
    ids=["threads", "forgotten", "asyncio", "without a loop", "loop after loop", "at the very end", "forks"],
)
async def test_everything_a_program_tracked_is_stored_once_when_it_has_ended(
    program: str,
    count: int,
    stack: Stack,
    services: ServiceProcesses,  # noqa: F811
    sender: Registered,  # noqa: F811
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program, services.url("gateway"), sender.api_key),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)

    assert (process.returncode, errors.decode()) == (0, "")
    ids = output.decode().split()
    assert len(ids) == count
    assert await stored_ids(stack) == Counter(ids)


async def test_the_examples_of_its_documentation_do_what_it_says(
    stack: Stack,
    services: ServiceProcesses,  # noqa: F811
    sender: Registered,  # noqa: F811
) -> None:
    text = (ROOT / "docs/python-client.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    known = {"TRACKING_GATEWAY_URL": services.url("gateway"), "TRACKING_DEMO_API_KEY": sender.api_key}

    written = ""
    for example in examples:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", example),
            env=os.environ | known,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 0, output.decode()
        written += output.decode()

    [promised] = re.findall(r"This prints `(.*?)`", text)
    assert promised in written
    assert (await stored_ids(stack)).total() == 5


def test_it_can_be_installed_without_anything_of_the_servers(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "libs/tracking_client", check=True, capture_output=True)

    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as files:
        names = set(files.namelist())
        [metadata] = [name for name in names if name.endswith("METADATA")]
        needs = re.findall(r"^Requires-Dist: (\S+?)[>=<]", files.read(metadata).decode(), re.MULTILINE)
    modules = {f"tracking_client/{path.name}" for path in (ROOT / "libs/tracking_client").glob("*.py")}
    assert modules | {"tracking_client/py.typed"} == {name for name in names if ".dist-info/" not in name}
    assert needs == ["httpx"]
