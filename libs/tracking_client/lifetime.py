"""The end of the program and its forks: what has unsent events is asked to send them, a child starts with none."""

import atexit
import os
import weakref
from typing import Protocol


class EventHolder(Protocol):
    """Holds events that are not sent yet."""

    def at_exit(self) -> None:
        """Send them, within the time that the options give."""

    def at_fork(self) -> None:
        """In the child: forget them, they are the parent's, and every lock, thread and connection."""


_known: "weakref.WeakSet[EventHolder]" = weakref.WeakSet()
_unsent: set[EventHolder] = set()


def register(holder: EventHolder) -> None:
    """For `at_fork`; the holder is not kept alive."""
    _known.add(holder)


def keep(holder: EventHolder) -> None:
    """It has something to send: kept alive, and asked at exit, until `release`."""
    _unsent.add(holder)


def release(holder: EventHolder) -> None:
    """It has nothing left."""
    _unsent.discard(holder)


@atexit.register
def _at_exit() -> None:
    for holder in list(_unsent):
        holder.at_exit()


def _at_fork() -> None:
    _unsent.clear()
    for holder in list(_known):
        holder.at_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork either
    os.register_at_fork(after_in_child=_at_fork)
