"""Fixtures for tests on real servers; `tests.support.backing_services` says which servers those are."""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest

from deploy.local import debian_packages
from tests.support.backing_services import BackingServices, Kind, chosen_kind, open_backing, prepare
from tests.support.stack import Stack, Templates, redis_numbers

KIND = pytest.StashKey[Kind]()
REASON = pytest.StashKey[str]()
CHROMIUM = os.environ.get("CHROMIUM", "chromium")
LOCK = Path(tempfile.gettempdir()) / "tracking-tests-prepare.lock"

# by default an example that takes 200 ms fails, and a machine that is slow to make examples fails too
hypothesis.settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy machine")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the servers; a choice that makes no sense ends the run here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # a shell's job in the background; processes that tests interrupt would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        config.stash[KIND], config.stash[REASON] = chosen_kind()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    if config.stash[KIND] == "external" and config.getoption("numprocesses", None):
        raise pytest.UsageError("servers named in the environment are for one worker: make test WORKERS=0")


def pytest_report_header(config: pytest.Config) -> str:
    """Say in the first lines which servers the tests will use."""
    return f"backing services: {config.stash[KIND]} ({config.stash[REASON]})"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Pull images or install packages before the first test's clock runs, if any test needs servers."""
    wanted = {name for item in session.items for name in _fixtures(item)}
    if session.config.option.collectonly or not wanted & {"backing", "chromium"}:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    say = reporter.write_line if reporter else print
    # of several workers the first installs, and the others find it done
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if "backing" in wanted:
            session.config.stash[KIND] = prepare(session.config.stash[KIND], say)
        if "chromium" in wanted and shutil.which(CHROMIUM) is None:
            debian_packages.install(["chromium"], say)


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program, installed from the system's packages if it was missing."""
    found = shutil.which(CHROMIUM)
    assert found is not None, "Chromium could not be installed: apt-get install chromium"
    return found


@pytest.fixture(scope="session")
def backing(request: pytest.FixtureRequest) -> Iterator[BackingServices]:
    """The servers, for the whole session."""
    backing = open_backing(request.config.stash[KIND])
    yield backing
    backing.close()


@pytest.fixture(scope="session")
def templates(backing: BackingServices) -> Iterator[Templates]:
    """The migrated databases that each test's own are copied from."""
    templates = Templates(backing)
    yield templates
    templates.close()


@pytest.fixture(scope="session")
def redis_database_numbers(backing: BackingServices) -> Iterator[int]:
    """One number for each test that wants Redis."""
    return redis_numbers(backing)


@pytest.fixture
async def stack(
    backing: BackingServices, templates: Templates, redis_database_numbers: Iterator[int]
) -> AsyncIterator[Stack]:
    """Databases, a virtual host and a Redis database of the test's own."""
    stack = Stack(backing, templates, redis_database_numbers)
    yield stack
    await stack.close()
