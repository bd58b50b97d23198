"""Decides in which lane a question is answered, and rejects one that would take more than a question may.

    for attempt in budget.attempts(caller, count):
        async with attempt as connection:
            rows = await …

The cheap lane is tried first. A question that takes longer than a cheap one may is asked again in the heavy lane, so
that it cannot keep cheap ones waiting, whatever was believed of it. One that is known to read many events begins there.
A heavy question ends when its caller closes the connection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from services.query.database import TooSlow
from services.query.lanes import Lane
from tracking.domain.errors import TooCostly, Unavailable
from tracking.infra.postgres import Connection

# how many events a question reads at most, by the rollups
EventCounter = Callable[[Connection], Awaitable[int]]
_WAYS_TO_NARROW = (
    ("startDate, endDate", "ask for a shorter range"),
    ("eventName, userId, anonymousId, correlationId", "give one of them: its events have an index"),
    ("uniqueActors, eventType, isBot, isValid", "leave out what makes it read events that it does not show"),
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the hash of the access token, and where it can be seen that the connection was closed."""

    token_sha256: str
    receive: Receive

    @classmethod
    def from_request(cls, request: Request) -> Self:
        """The caller of an authenticated request whose body, if it has one, has been read."""
        return cls(request.scope["access_token_sha256"], request.receive)


@dataclass(frozen=True, slots=True)
class EventLimits:
    """Events that a question may read: up to `cheap` as a cheap one, up to `most` at all."""

    cheap: int
    most: int


class Budget:
    """The two lanes, and what may be asked in them."""

    def __init__(self, cheap: Lane, heavy: Lane, limits: EventLimits) -> None:
        self._cheap = cheap
        self._heavy = heavy
        self._limits = limits

    def attempts(
        self, caller: Caller, count: EventCounter, *, events_to_read: int | None = None
    ) -> Iterator[AbstractAsyncContextManager[Connection]]:
        """One or two connections to answer the question with: the second if the first took too long.

        `events_to_read` is given for a question that reads every event of its range; `count` is asked for that number
        only if a question takes too long. A connection raises TooCostly for a question over the limits, Unavailable
        if there is none within the time that a question may wait.
        """
        if events_to_read is not None and events_to_read > self._limits.most:
            raise self._make_too_costly(events_to_read)
        if events_to_read is None or events_to_read <= self._limits.cheap:
            first = _Attempt()
            yield self._try_cheap(caller, first)
            if not first.was_too_slow:
                return
        yield self._run_heavy(caller, count, events_to_read)

    @asynccontextmanager
    async def connect(self, caller: Caller) -> AsyncIterator[Connection]:
        """A connection of the cheap lane, for what is no question by itself."""
        async with self._cheap.connect(caller.token_sha256) as connection:
            yield connection

    @asynccontextmanager
    async def _try_cheap(self, caller: Caller, attempt: "_Attempt") -> AsyncIterator[Connection]:
        try:
            async with self._cheap.connect(caller.token_sha256) as connection:
                yield connection
        except TooSlow:
            attempt.was_too_slow = True

    @asynccontextmanager
    async def _run_heavy(
        self, caller: Caller, count: EventCounter, events_to_read: int | None
    ) -> AsyncIterator[Connection]:
        try:
            async with cancel_when_gone(caller.receive), self._heavy.connect(caller.token_sha256) as connection:
                yield connection
        except TooSlow:
            if events_to_read is None:
                events_to_read = await self._try_count(caller, count)
            if events_to_read is None or events_to_read <= self._limits.cheap:
                # so few events take long only if the database does
                raise
            raise self._make_too_costly(events_to_read) from None

    async def _try_count(self, caller: Caller, count: EventCounter) -> int | None:
        try:
            async with self.connect(caller) as connection:
                return await count(connection)
        except Unavailable:
            return None

    def _make_too_costly(self, events_to_read: int) -> TooCostly:
        message = (
            f"To answer this, up to {events_to_read} events would have to be read, which is more than a question may "
            f"read ({self._limits.most}) or takes longer than it may. Narrow it."
        )
        details = [{"field": field, "message": way} for field, way in _WAYS_TO_NARROW]
        return TooCostly("question_too_costly", message, details)


@dataclass(slots=True)
class _Attempt:
    was_too_slow: bool = False


@asynccontextmanager
async def cancel_when_gone(receive: Receive) -> AsyncIterator[None]:
    """Cancel the work inside when the client closes the connection, and raise ClientDisconnect then."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in a task
    is_gone = False

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if is_gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
