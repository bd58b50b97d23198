"""Polls until a condition holds, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(
    ask: Callable[[], Awaitable[T]], is_so: Callable[[T], bool], deadline_s: float = 20, *, every_s: float = 0.05
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
