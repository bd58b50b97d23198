"""Slots of a lane: bounded in all and by caller, given in turn, and never lost."""

import asyncio
import random

import pytest

from services.query.lanes import Slots

PATIENCE_S = 60.0


async def give_way(times: int = 5) -> None:
    """Let all tasks that can go on do so."""
    for _ in range(times):
        await asyncio.sleep(0)


class Holder:
    """Holds slots until it is told to let go."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.order: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, wait_s: float = PATIENCE_S) -> None:
        """Ask for a slot in the name of the caller that `name` begins with."""
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, wait_s))

    async def _hold(self, name: str, wait_s: float) -> None:
        async with self._slots.hold(name[0], wait_s):
            self.order.append(name)
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        """Let the slot of `name` go, and whoever waits take it."""
        self._ends[name].set()
        await self.tasks[name]
        await give_way()


async def test_a_free_slot_goes_to_the_first_whose_caller_may_have_another() -> None:
    holder = Holder(Slots(total=3, by_caller=2))

    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        holder.start(name)
        await give_way()
    assert holder.order == ["a1", "a2", "b1"]
    await holder.end("b1")
    assert holder.order == ["a1", "a2", "b1", "b2"]
    await holder.end("a1")
    await holder.end("a2")
    assert holder.order == ["a1", "a2", "b1", "b2", "a3", "a4"]
    await holder.end("b2")
    assert holder.order[-1] == "c1"
    for name in ("a3", "a4", "c1"):
        await holder.end(name)


async def test_who_waits_too_long_is_told_so_and_forgotten() -> None:
    holder = Holder(Slots(total=1, by_caller=1))
    holder.start("a1")
    holder.start("b1", wait_s=0)
    holder.start("c1")

    with pytest.raises(TimeoutError):
        await holder.tasks["b1"]
    await holder.end("a1")

    assert holder.order == ["a1", "c1"]
    await holder.end("c1")


@pytest.mark.parametrize("seed", range(5))
async def test_no_slot_is_lost_and_none_given_twice_whoever_gives_up(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    slots, held = Slots(total=4, by_caller=2), {"a": 0, "b": 0, "c": 0}

    async def ask(caller: str) -> None:
        async with slots.hold(caller, chance.choice([0.001, PATIENCE_S])):
            held[caller] += 1
            assert sum(held.values()) <= 4
            assert held[caller] <= 2
            try:
                await give_way(chance.randrange(20))
            finally:
                held[caller] -= 1

    tasks = [asyncio.create_task(ask(chance.choice("abc"))) for _ in range(300)]
    while not all(task.done() for task in tasks):
        await give_way(chance.randrange(3))
        chance.choice(tasks).cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(result is None or isinstance(result, asyncio.CancelledError | TimeoutError) for result in results)
    holder = Holder(slots)
    for name in ("a1", "a2", "b1", "b2"):
        holder.start(name)
    await give_way()
    assert len(holder.order) == 4
    for name in ("a1", "a2", "b1", "b2"):
        await holder.end(name)
