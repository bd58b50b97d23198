"""Waiting for what happens by itself: asked again and again until it is so, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
# How long a test waits for what must happen in the end. A busy machine needs a fraction of it, so that a test which
# runs out of patience has found something that never happens, and no slow machine.
PATIENCE_S = 60.0


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
