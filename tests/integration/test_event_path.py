"""README's table of the path of one event names the modules that really receive an event, and no other.

An event with a name of its own is sent to the gateway, and read from query's list once projector and statistics have
applied it, while each process is traced. `tests.support.event_tracer` says when a module has received it. Batches and
whatever else the fast path declines take another path, and so do events that the relay publishes again: the table is
about the path that nearly every event takes.
"""

import json
import re
from pathlib import Path

import pytest

from tests.support import raw_http
from tests.support.event_tracer import FOLDER_VARIABLE, Step, make_event_name, read_steps
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.read_model import add_token
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ROOT, ServiceProcesses, run_services
from tests.support.stack import Stack

MAX_FILES = 26
# It is given what was committed, and hands it to nobody.
ONLY_COUNTS = {"services/gateway/commit/event_metrics.py"}
DEADLINE_S = 45
# A single one could miss the fast path: on a machine that stands still for a while, its key must be looked up again.
EVENTS = [make_event_name(number) for number in range(3)]
COUNT_APPLIED = """
select (select count(*) from read.tracking_events_read_model),
       (select coalesce(sum(total), 0) from read.event_counts_hourly)
"""


def read_table() -> list[str]:
    """The files of README's section, in its order."""
    section = re.search(r"^## The path of one event$(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)
    assert section is not None
    rows = [line for line in section[1].splitlines() if line.startswith("|")]
    return re.findall(r"`((?:libs|services)/[\w/]+\.py)`", "\n".join(rows))


async def send(services: ServiceProcesses, sender: Registered, name: str) -> None:
    """One event in one piece, as SDKs send it; its answer tells that it is stored."""
    body = json.dumps({"eventName": name, "userId": "user_1", "eventProperties": {"page": f"/{name}"}}).encode()
    headers = [(b"X-Api-Key", sender.api_key.encode()), (b"Content-Type", b"application/json")]
    request = raw_http.request("POST", b"/api/events/ingest", headers, body)
    answer = await raw_http.exchange(services.url("gateway"), request, timeout_s=DEADLINE_S)
    assert answer.status == 202, answer.body


async def send_and_read(stack: Stack, folder: Path) -> list[Step]:
    """Send the events one after the other and read them from query; the steps of the one with the shortest path.

    What the fast path declines takes it up to there and then the longer way, so the shortest is that of the fast path.
    """
    sender, token = await register_system(stack), await add_token(stack, "admin")
    (folder / "sitecustomize.py").write_text("from tests.support import event_tracer\n\nevent_tracer.install()\n")
    traced = {"PYTHONPATH": str(folder), FOLDER_VARIABLE: str(folder)}
    async with run_services(stack, "gateway", "projector", "statistics", "query", settings=traced) as services:
        # the fast path is for keys that the gateway has in memory
        for name in ("first_of_its_key", *EVENTS):
            await send(services, sender, name)
        read, number = await stack.read(), len(EVENTS) + 1
        await until(lambda: read.fetchrow(COUNT_APPLIED), lambda row: tuple(row or ()) == (number, number), DEADLINE_S)
        headers = {"Authorization": f"Bearer {token}"}
        async with http_client(base_url=services.url("query"), headers=headers, timeout=DEADLINE_S) as client:
            response = await client.get(f"/api/events/partner-system/{sender.system_id}")
    assert {event["eventName"] for event in response.json()["events"]} > set(EVENTS)
    return min((read_steps(folder, name) for name in EVENTS), key=len)


@pytest.mark.timeout(150)
async def test_the_path_of_one_event_is_the_one_that_an_event_takes(stack: Stack, tmp_path: Path) -> None:
    table = read_table()

    steps = [step for step in await send_and_read(stack, tmp_path) if step.path not in ONLY_COUNTS]

    seen = [step.path for step in steps]
    assert set(table) == set(seen), (
        f"not in README's table: {[path for path in seen if path not in table]}\n"
        f"in the table, but did not receive the event: {[path for path in table if path not in seen]}\n"
        "who received it, in this order:\n" + "\n".join(f"{step.path} in {step.function}" for step in steps)
    )


def test_the_path_of_one_event_is_short() -> None:
    table = read_table()

    assert 0 < len(table) <= MAX_FILES
    assert len(set(table)) == len(table)
