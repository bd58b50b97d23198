"""Lanes: the connections that questions of one kind share, so that no kind waits for another.

A lane answers a bounded number of questions at a time, in all and by caller, and each of them has a bounded time. A
question for which there is no connection waits for a bounded time too.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.query.database import TooSlow, translate_errors
from tracking.domain.errors import Unavailable
from tracking.infra import metrics
from tracking.infra.postgres import Connection, Pool


class Slots:
    """Who may go on: at most `total` at a time, and `by_caller` of them of one caller.

    A slot that becomes free goes to the one that has waited longest among the callers that may have another, so a
    caller with many requests does not hold up one with few.
    """

    def __init__(self, *, total: int, by_caller: int) -> None:
        self._free = total
        self._by_caller = by_caller
        self._held: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, caller: str, wait_s: float) -> AsyncIterator[None]:
        """Hold a slot. Raises TimeoutError if there is none within `wait_s`."""
        await self._acquire(caller, wait_s)
        try:
            yield
        finally:
            self._release(caller)

    async def _acquire(self, caller: str, wait_s: float) -> None:
        if self._may_have(caller):
            self._give(caller)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((caller, turn))
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # it was given in the moment in which the wait ended
                self._release(caller)
            else:
                self._waiting.remove((caller, turn))
            raise

    def _may_have(self, caller: str) -> bool:
        return self._free > 0 and self._held[caller] < self._by_caller

    def _give(self, caller: str) -> None:
        self._free -= 1
        self._held[caller] += 1

    def _release(self, caller: str) -> None:
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        for waiting in tuple(self._waiting):
            other, turn = waiting
            if not turn.done() and self._may_have(other):
                self._waiting.remove(waiting)
                self._give(other)
                turn.set_result(None)


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """How many questions a lane answers at a time, in all and by caller, and how long one may wait and take."""

    connections: int
    by_caller: int
    wait_s: float
    timeout_s: float


class Lane:
    """A pool of `limits.connections` connections."""

    def __init__(self, name: str, pool: Pool, limits: LaneLimits, *, connect_timeout_s: float) -> None:
        self._name = name
        self._pool = pool
        self._limits = limits
        self._connect_timeout_s = connect_timeout_s
        self._slots = Slots(total=limits.connections, by_caller=limits.by_caller)

    @asynccontextmanager
    async def connect(self, caller: str) -> AsyncIterator[Connection]:
        """A connection for the statements of one question; a statement that is under way at the end is cancelled.

        Raises TooSlow if the question takes longer than it may, and Unavailable if there is no connection in time.
        """
        try:
            async with self._slots.hold(caller, self._limits.wait_s):
                async with self._open() as connection:
                    yield connection
        except TimeoutError:
            self._count("busy")
            message = "Too many questions are being answered now; ask again, with fewer at a time."
            raise Unavailable("too_many_questions", message, 2) from None
        self._count("answered")

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Connection]:
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                with translate_errors():
                    async with self._pool.acquire(timeout=self._connect_timeout_s) as connection:
                        yield connection
        except TimeoutError:
            self._count("too_slow")
            raise TooSlow from None

    def _count(self, result: str) -> None:
        metrics.questions.labels(self._name, result).inc()
