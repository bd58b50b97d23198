"""Records which modules of a service receive a traced event, by a profile function that Python calls at each call.

A module receives the event if one of its functions gets it as an argument or as the result of a call. A value is the
event if the event's unique name stands in something larger than the name itself: in bytes, a container, an object, a
row or a message, which may be compressed. What gets the name alone, for a look-up, has a field and not the event.

A service is traced if `sitecustomize`, which Python imports at its start, calls `install`. Each process writes a file
of its own into the folder that EVENT_TRACER_FOLDER names: a line of JSON for each module and event, in order of time.
"""

import json
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from inspect import CO_VARARGS, CO_VARKEYWORDS
from pathlib import Path
from types import FrameType
from typing import Any, cast

import zstandard

FOLDER_VARIABLE = "EVENT_TRACER_FOLDER"
_ROOT = f"{Path(__file__).parents[2]}/"
_TRACED_FOLDERS = ("services/", "libs/tracking/")
_OWN_PACKAGES = ("services.", "tracking.")
_NAME = re.compile(r"traced_event_\d+")
_NAME_IN_BYTES = re.compile(_NAME.pattern.encode())
_ZSTD_MAGIC = bytes.fromhex("28b52ffd")
_MAX_MESSAGE_BYTES = 1 << 20
# The event is at most three levels down in what functions are given. At six, every object that refers to the group
# commit would seem to hold the events that wait in it.
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Step:
    """The first time a module received an event: when, by the machine's monotonic clock, and which function did."""

    at_ns: int
    event_name: str
    path: str
    function: str


def make_event_name(number: int) -> str:
    """The name of a traced event."""
    return f"traced_event_{number}"


def install() -> None:
    """Trace all threads of this process from here on."""
    profile = _Profile(Path(os.environ[FOLDER_VARIABLE]) / f"{os.getpid()}.jsonl")
    threading.setprofile(profile)
    sys.setprofile(profile)


def read_steps(folder: Path, event_name: str) -> list[Step]:
    """One for each module that received the event, in the order in which they first did, over all processes."""
    lines = [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    steps = sorted((Step(*json.loads(line)) for line in lines), key=lambda step: step.at_ns)
    # from the last to the first, so that the first of each module is the one that stays
    first = {step.path: step for step in reversed(steps) if step.event_name == event_name}
    return sorted(first.values(), key=lambda step: step.at_ns)


def find_event_names(value: object) -> set[str]:
    """Names of the traced events that the value is or contains; empty if it is nothing but a name."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return set()
    if isinstance(value, bytes) and _NAME_IN_BYTES.fullmatch(value):
        return set()
    return set(_find(value, 0, set()))


def _find(value: object, depth: int, seen: set[int]) -> Iterator[str]:
    if isinstance(value, str):
        yield from _NAME.findall(value)
    elif isinstance(value, bytes | bytearray | memoryview):
        for name in _NAME_IN_BYTES.findall(_decompress(bytes(value))):
            yield name.decode()
    elif depth < _MAX_DEPTH and id(value) not in seen:
        seen.add(id(value))
        for part in _list_parts(value):
            yield from _find(part, depth + 1, seen)


def _decompress(data: bytes) -> bytes:
    if data.startswith(_ZSTD_MAGIC):
        try:
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=_MAX_MESSAGE_BYTES)
        except zstandard.ZstdError:
            pass  # no whole frame, so no message
    return data


def _list_parts(value: object) -> list[object]:
    """Return items of a container or row, attributes of one of the project's objects, or a library message's body."""
    kind = type(value)
    if isinstance(value, dict):
        return [part for item in list(dict.items(value)) for part in item]
    if isinstance(value, list | tuple | set | frozenset | deque) or kind.__name__ == "Record":
        return list(cast("Iterable[object]", value))  # Record: asyncpg's row
    if kind.__module__.startswith(_OWN_PACKAGES):
        return [*getattr(value, "__dict__", {}).values(), *_list_slots(value)]
    body = getattr(value, "__dict__", {}).get("body")
    return [body] if isinstance(body, bytes) else []


def _list_slots(value: object) -> list[object]:
    names = [name for kind in type(value).__mro__ for name in _to_names(kind.__dict__.get("__slots__", ()))]
    return [getattr(value, name, None) for name in names]


def _to_names(slots: str | Iterable[str]) -> Iterable[str]:
    return (slots,) if isinstance(slots, str) else slots


class _Profile:
    """The profile function of one process."""

    def __init__(self, records: Path) -> None:
        self._output = os.open(records, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._own_paths: dict[str, str | None] = {}
        self._recorded: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        if event == "call":
            self._record(frame, _list_arguments(frame))
        elif event == "return" and frame.f_back is not None:
            self._record(frame.f_back, [value])

    def _find_own_path(self, frame: FrameType) -> str | None:
        """The path of the function's module in the project; None if it is not part of it."""
        file = frame.f_code.co_filename
        if file not in self._own_paths:
            path = file.removeprefix(_ROOT)
            is_own = file.startswith(_ROOT) and path.startswith(_TRACED_FOLDERS)
            self._own_paths[file] = path if is_own else None
        return self._own_paths[file]

    def _record(self, receiver: FrameType, values: Iterable[object]) -> None:
        path = self._find_own_path(receiver)
        if path is None:
            return
        for name in {name for value in values for name in find_event_names(value)}:
            if (name, path) not in self._recorded:
                self._recorded.add((name, path))
                line = json.dumps([time.monotonic_ns(), name, path, receiver.f_code.co_qualname])
                os.write(self._output, line.encode() + b"\n")


def _list_arguments(frame: FrameType) -> Iterator[object]:
    """Without `self`: an object that holds an event received it earlier."""
    code = frame.f_code
    has_args, has_kwargs = bool(code.co_flags & CO_VARARGS), bool(code.co_flags & CO_VARKEYWORDS)
    number = code.co_argcount + code.co_kwonlyargcount + has_args + has_kwargs
    values = frame.f_locals
    for name in code.co_varnames[:number]:
        if name != "self" and name in values:
            yield values[name]
