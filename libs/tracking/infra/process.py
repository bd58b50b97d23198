"""The life of a process: health, metrics, signals, and an end in order.

On SIGTERM: readiness turns false at once, traffic goes on for `drain_delay_s` so that load balancers notice, each
answer the last of its connection. Then the server stops taking connections and finishes its requests, and the caller's
resources close in reverse.
"""

import asyncio
import contextlib
import gc
import logging
import resource
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

import uvloop
from pydantic import ValidationError

_log = logging.getLogger(__name__)
_GC_YOUNG, _GC_MIDDLE, _GC_OLD = 20_000, 20, 50


@contextlib.asynccontextmanager
async def run_in_background(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run loops beside the body; they are cancelled and awaited at its end, and the failure of one ends the body."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(loop) for loop in loops]
        try:
            yield
        finally:
            # repeated: a library that catches a cancellation at the wrong moment must not keep the process from ending
            while left := [task for task in started if not task.done()]:
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=1)


def run(main: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a process's main on uvloop.

    An error that an operator must correct (a setting, a port in use) ends the process with one line.
    """

    # what was imported lives for ever, and a request makes few cycles: looking for them at Python's default pace
    # takes a tenth of the gateway's time (docs/benchmarks.md)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_YOUNG, _GC_MIDDLE, _GC_OLD)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except* ValidationError as errors:
        faults = "; ".join(_describe(error) for error in _leaves(errors))
        sys.exit(f"the settings in the environment are not complete: {faults}")
    except* OSError as errors:
        sys.exit("; ".join(str(error) for error in _leaves(errors)))


def _describe(error: BaseException) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # never the input: it may be a secret
    faults = error.errors(include_input=False)
    return "; ".join(
        ": ".join([*(f"TRACKING_{name}".upper() for name in fault["loc"][:1]), fault["msg"]]) for fault in faults
    )


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard one. Every connection is a file, and 1,024 is a common limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
