"""The tracer behind the path of one event tells an event from a name, and records which module received it first."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import zstandard

from tests.support import event_tracer
from tests.support.event_tracer import Step, find_event_names, make_event_name, read_steps
from tracking.contracts import events_tracked
from tracking.contracts.events_tracked import SystemContext

NAME = make_event_name(7)
MESSAGE = b'{"events": {"eventName": ["%b"]}}' % NAME.encode()
CONTEXT = SystemContext(UUID(int=1), NAME, UUID(int=2), "a partner")


@pytest.mark.parametrize(
    "value",
    [
        MESSAGE,
        memoryview(MESSAGE),
        MESSAGE.decode(),
        zstandard.compress(MESSAGE),
        [NAME],
        {"counts": {NAME: 1}},
        (1, [{"rows": (None, NAME)}]),
        CONTEXT,
        SimpleNamespace(body=MESSAGE),
    ],
)
def test_an_event_is_found_in_what_holds_it(value: Any) -> None:
    assert find_event_names(value) == {NAME}


@pytest.mark.parametrize(
    "value",
    [
        NAME,
        NAME.encode(),
        None,
        7,
        b"",
        zstandard.compress(MESSAGE)[:20],
        {"eventName": "page_view"},
        [[[[[NAME]]]]],
        SimpleNamespace(waiting=[MESSAGE]),
        lambda: MESSAGE,
    ],
)
def test_a_name_alone_and_what_is_no_value_are_not_the_event(value: Any) -> None:
    assert find_event_names(value) == set()


def test_several_events_in_one_value_are_all_found() -> None:
    assert find_event_names([{"name": NAME}, make_event_name(8)]) == {NAME, make_event_name(8)}


def test_a_container_that_holds_itself_is_read_once() -> None:
    circle: list[Any] = [NAME]
    circle.append(circle)

    assert find_event_names(circle) == {NAME}


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of records, while this process is traced."""
    monkeypatch.setenv(event_tracer.FOLDER_VARIABLE, str(tmp_path))
    before = sys.getprofile()
    event_tracer.install()
    yield tmp_path
    threading.setprofile(None)
    sys.setprofile(before)


def test_a_module_that_is_given_the_event_is_recorded(records: Path) -> None:
    with pytest.raises(events_tracked.UnreadableMessage):
        events_tracked.decode(MESSAGE)

    assert [(step.path, step.function) for step in read_steps(records, NAME)] == [
        ("libs/tracking/contracts/events_tracked.py", "decode")
    ]


def test_of_several_processes_the_first_to_receive_it_counts(tmp_path: Path) -> None:
    lines = {
        "1.jsonl": f'[30, "{NAME}", "b.py", "late"]\n[40, "{NAME}", "c.py", "last"]\n',
        "2.jsonl": f'[10, "{NAME}", "a.py", "first"]\n[20, "{NAME}", "b.py", "early"]\n[5, "another", "d.py", "f"]\n',
    }
    for file, text in lines.items():
        (tmp_path / file).write_text(text)

    assert read_steps(tmp_path, NAME) == [
        Step(10, NAME, "a.py", "first"),
        Step(20, NAME, "b.py", "early"),
        Step(40, NAME, "c.py", "last"),
    ]
