"""The environment that every section of the benchmark gets: servers, and how long it may take."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from tests.load.report import BenchRow
from tests.support.backing_services import LocalServices
from tests.support.stack import Stack, Templates


@dataclass(frozen=True, slots=True)
class BenchEnvironment:
    """Servers as durable as a user's; `say` prints a line of progress."""

    backing: LocalServices
    templates: Templates
    redis_numbers: Iterator[int]
    say: Callable[[str], None]
    is_quick: bool

    @property
    def seconds(self) -> float:
        """How long one measurement of throughput takes."""
        return 2.0 if self.is_quick else 8.0

    @asynccontextmanager
    async def stack(self) -> AsyncIterator[Stack]:
        """Fresh databases, a virtual host and a Redis database, dropped afterwards."""
        stack = Stack(self.backing, self.templates, self.redis_numbers)
        try:
            yield stack
        finally:
            await stack.close()


class Section(Protocol):
    """A part of the benchmark: rows, and what fills them.

    `rounds` is how often it wants to be measured; rounds of all sections are interleaved, so that what the machine does
    meanwhile meets them alike. AssertionError when events were lost or counted twice.
    """

    @property
    def rows(self) -> Sequence[BenchRow]:
        """In the order of the table."""

    @property
    def remarks(self) -> Sequence[str]:
        """Lines below the table."""

    @property
    def rounds(self) -> int:
        """How many there are to be."""

    async def round(self) -> None:
        """Measure once, and add a figure to each row."""
