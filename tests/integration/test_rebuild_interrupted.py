"""A rebuild of the read model is killed or held up: the next one continues it, and nothing stays half done."""

import contextlib
import signal
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.support.polling import PATIENCE_S, until
from tests.support.rebuild import (
    EMPTY,
    QUICK,
    WORKERS,
    assert_exact,
    content,
    finish,
    launched,
    plain,
    reach,
    rebuild,
    send,
    send_mixed,
)
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack


@pytest.fixture
async def senders(stack: Stack) -> list[Registered]:
    """Two systems of one partner, and one of another."""
    first = await register_system(stack, "Website")
    return [first, await register_system(stack, "App", first.partner_id), await register_system(stack, "Shop")]


@pytest.fixture
async def services(stack: Stack, senders: list[Registered]) -> AsyncIterator[ServiceProcesses]:
    """Everything that an event passes through."""
    async with run_services(stack, "gateway", *WORKERS, settings=QUICK) as services:
        yield services


@contextlib.asynccontextmanager
async def held_up(stack: Stack, statement: str, *arguments: Any) -> AsyncIterator[asyncpg.Connection]:
    """A transaction that holds what the rebuild will need, rolled back at the end."""
    connection = await asyncpg.connect(stack.read_url(), timeout=PATIENCE_S)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement, *arguments)
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


async def is_waiting(stack: Stack) -> bool:
    read = await stack.read()
    return bool(
        await read.fetchval(
            "select exists (select from pg_stat_activity where datname = current_database()"
            " and usename = 'tracking_operate' and wait_event_type = 'Lock')"
        )
    )


async def test_a_rebuild_that_is_killed_goes_on_where_it_was(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    for start in range(0, 10_000, 2_000):
        await send(services, senders[0], plain(range(start, start + 2_000)))
    await reach(stack, 10_000)
    await services.stop(*WORKERS)
    before = await content(stack)
    read = await stack.read()
    await read.execute(EMPTY)
    last = before.inbox[-1]["batch_id"]

    # in the first half: the last batch cannot enter the inbox
    enter = "insert into read.applied_batches (batch_id, consumer) values ($1, 'projector')"
    async with held_up(stack, enter, last):
        with launched(stack) as process:
            await until(lambda: is_waiting(stack), bool)
            rejected = await rebuild(stack, "--from", "2026-01-01", status=2)
            assert "another rebuild" in rejected.err
    rows = await read.fetch("select id, phase, done_batches, done_events from read.rebuilds")
    assert [row["phase"] for row in rows] == ["batches"]
    done = rows[0]["done_batches"]
    assert 0 < done < len(before.inbox) // 2
    assert rows[0]["done_events"] == await read.fetchval("select count(*) from read.tracking_events_read_model")

    # in the second half: a wrong count cannot be put right
    await read.execute("update read.event_counts_hourly set total = total + 1, valid = valid + 1")
    async with held_up(stack, "select from read.event_counts_hourly where event_name = 'name_0' for update"):
        # (what the first half has to add does not pass that row either)
        with launched(stack) as process:
            await until(lambda: is_waiting(stack), bool)
            process.kill()
            killed = await finish(process)
    assert f"{done:,} of" in killed.err.splitlines()[0]
    finished = await rebuild(stack)

    assert await content(stack) == before
    assert finished.result["events"] == 10_000
    assert [row["phase"] for row in await read.fetch("select phase from read.rebuilds")] == ["done"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
async def test_a_rebuild_ended_while_it_counts_goes_on_where_it_was(
    services: ServiceProcesses, stack: Stack, senders: list[Registered], number: signal.Signals, status: int
) -> None:
    await send_mixed(services, stack, senders)
    await services.stop(*WORKERS)
    before = await content(stack)
    read = await stack.read()
    await read.execute("update read.event_counts_hourly set total = total + 1, valid = valid + 1")

    async with held_up(stack, "select from read.event_counts_hourly for update"):
        with launched(stack) as process:
            await until(lambda: is_waiting(stack), bool)
            process.send_signal(number)
            ended = await finish(process)
    assert ended.status == status
    assert "Traceback" not in ended.err
    assert [row["phase"] for row in await read.fetch("select phase from read.rebuilds")] == ["hours"]
    finished = await rebuild(stack, "--resume")

    assert await content(stack) == before
    assert finished.result["batches"] == 9
    assert finished.result["repairedCounts"] == len(before.counts)


async def test_there_is_nothing_to_resume_when_nothing_was_interrupted(stack: Stack) -> None:
    rejected = await rebuild(stack, "--resume", status=2)

    assert "no unfinished rebuild" in rejected.err


PROVEN = """
insert into write.consumer_positions (consumer, applied_through, updated_at)
select consumer, $1, now()
  from unnest(array['projector', 'statistics']) as named (consumer)
    on conflict (consumer) do update set applied_through = excluded.applied_through
"""


async def test_nobody_claims_to_be_up_to_date_while_a_lost_read_database_is_filled_again(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    for start in range(0, 10_000, 2_000):
        await send(services, senders[0], plain(range(start, start + 2_000)))
    await reach(stack, 10_000)
    await services.stop("projector", "statistics")
    write, read = await stack.write(), await stack.read()
    last = (await content(stack)).inbox[-1]["batch_id"]
    await write.execute(PROVEN, last)  # as half a minute later
    await read.execute(EMPTY)

    async def pending() -> list[int]:
        rows = await read.fetch("select pending_batches from read.consumer_progress order by consumer")
        return [row["pending_batches"] for row in rows]

    await until(pending, lambda numbers: numbers == [0, 0])  # the relay cannot know yet
    enter = "insert into read.applied_batches (batch_id, consumer) values ($1, 'projector')"
    with contextlib.ExitStack() as ending:
        async with held_up(stack, enter, last):
            process = ending.enter_context(launched(stack))
            await until(pending, lambda numbers: len(numbers) == 2 and min(numbers) > 0)
        assert (await finish(process)).status == 0

    await until(pending, lambda numbers: numbers == [0, 0])
    await services.start("projector", "statistics")
    await reach(stack, 10_000)
    await assert_exact(stack)
