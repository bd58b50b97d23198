"""The end of the program and its forks: holders of unsent events send them at exit, and a forked child has none."""

import atexit
import os
import weakref
from typing import Protocol


class EventHolder(Protocol):
    """Holds events that are not sent yet."""

    def at_exit(self) -> None:
        """Send the events, within the time that the options give."""

    def at_fork(self) -> None:
        """Forget the events, locks, threads and connections in the forked child: they belong to the parent."""


_holders: "weakref.WeakSet[EventHolder]" = weakref.WeakSet()
_unsent_holders: set[EventHolder] = set()


def register(holder: EventHolder) -> None:
    """Have `at_fork` called after a fork; this does not keep the holder alive."""
    _holders.add(holder)


def keep(holder: EventHolder) -> None:
    """Keep the holder alive and have `at_exit` called, because it has events to send, until `release`."""
    _unsent_holders.add(holder)


def release(holder: EventHolder) -> None:
    """Undo `keep`: the holder has no events left."""
    _unsent_holders.discard(holder)


@atexit.register
def _at_exit() -> None:
    for holder in list(_unsent_holders):
        holder.at_exit()


def _at_fork() -> None:
    _unsent_holders.clear()
    for holder in list(_holders):
        holder.at_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_at_fork)
