"""Polls until a condition holds, with a deadline, and tells a slow product from a slow machine.

Other processes make a try last longer, never shorter. So where a time is promised, one try of several has to keep it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
# How long a test waits for what must happen in the end. A busy machine needs a fraction of it, so that a test which
# runs out of patience has found something that never happens, and no slow machine.
PATIENCE_S = 60.0
_MOST_TRIES = 10


async def until(
    ask: Callable[[], Awaitable[T]],
    is_so: Callable[[T], bool],
    deadline_s: float = PATIENCE_S,
    *,
    every_s: float = 0.05,
) -> T:
    """The first answer for which `is_so`; AssertionError with the last one when there is none in time."""
    answer = await ask()
    try:
        async with asyncio.timeout(deadline_s):
            while not is_so(answer):
                await asyncio.sleep(every_s)
                answer = await ask()
    except TimeoutError:
        raise AssertionError(f"after {deadline_s} s still {answer!r}") from None
    return answer


async def in_time(limit_s: float, attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of the first try that takes less than `limit_s`; AssertionError when none of several does."""
    seconds: list[float] = []
    for _ in range(_MOST_TRIES):
        started = time.monotonic()
        result = await attempt()
        seconds.append(time.monotonic() - started)
        if seconds[-1] < limit_s:
            return result
    raise AssertionError(f"no try took less than {limit_s} s: {seconds}")


async def takes_effect(
    limit_s: float,
    change: Callable[[], Awaitable[object]],
    undo: Callable[[], Awaitable[object]],
    is_seen: Callable[[], Awaitable[bool]],
) -> None:
    """AssertionError unless what `change` does is seen within `limit_s`, in one of several tries at least."""
    seconds: list[float] = []
    for _ in range(_MOST_TRIES):
        await change()
        started = time.monotonic()
        await until(is_seen, bool, every_s=0.02)
        seconds.append(time.monotonic() - started)
        if seconds[-1] < limit_s:
            return
        await undo()
        await until(is_seen, lambda seen: not seen)
    raise AssertionError(f"never seen within {limit_s} s: {seconds}")
