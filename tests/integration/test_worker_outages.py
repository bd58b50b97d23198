"""A consumer gives up no batch that a working database would take, and no batch holds up the others.

What is wrong with the database is made by triggers and by rights that are taken away, so it answers pings all the time.
"""

from collections.abc import AsyncIterator, Callable

import pytest

from tests.integration.test_pipeline import QUICK, both, projected, reach, send
from tests.support.dead_letters import CURE, POISON, depths, metric, reach_states, ready
from tests.support.polling import until
from tests.support.rebuild import assert_nothing_to_correct
from tests.support.registry import Registered, register_system
from tests.support.schema_change import change_schema
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.contracts import topology
from tracking.tables.apply_failures import MAX_ATTEMPTS

CONSUMERS = ("relay", "projector", "statistics")
TIME_LIMIT_S = 2
SETTINGS = {
    **QUICK,
    "TRACKING_QUERY_TIMEOUT_S": str(TIME_LIMIT_S),
    "TRACKING_UNAPPLIED_AFTER_S": "8",
    "TRACKING_RETRY_PAUSE_S": "0.005",
}

FAIL = """
create function read.fail() returns trigger language plpgsql as $$
begin
    if new.event_name like '{name}' then
        {action}
    end if;
    return new;
end $$;
create trigger fail before insert on read.tracking_events_read_model for each row execute function read.fail();
"""
MEND = "drop trigger fail on read.tracking_events_read_model; drop function read.fail"
OUTAGES = {
    "a right is missing": (
        "revoke insert on read.tracking_events_read_model from tracking_projector",
        "grant insert on read.tracking_events_read_model to tracking_projector",
    ),
    "a table is missing": (
        "alter table read.tracking_events_read_model rename to away",
        "alter table read.away rename to tracking_events_read_model",
    ),
    "the disk is full": (FAIL.format(name="%", action="raise exception 'full' using errcode = '53100';"), MEND),
    "memory is short": (FAIL.format(name="%", action="raise exception 'short' using errcode = '53200';"), MEND),
    "an internal error": (FAIL.format(name="%", action="raise exception 'broken' using errcode = 'XX000';"), MEND),
    "statements take too long": (FAIL.format(name="%", action="perform pg_sleep(60);"), MEND),
    "backends end": (FAIL.format(name="%", action="perform pg_terminate_backend(pg_backend_pid());"), MEND),
}


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """Everything that an event passes through, with short time limits."""
    async with run_services(stack, "gateway", *CONSUMERS, settings=SETTINGS) as services:
        yield services


async def retries(services: ServiceProcesses, reason: str) -> float:
    name = f'tracking_apply_retries_total{{consumer="projector",reason="{reason}"}}'
    return await metric(services, "projector", name)


async def assert_applied_once(services: ServiceProcesses, stack: Stack, number: int) -> None:
    """All events are applied, nothing was given up, and a rebuild finds nothing to correct."""
    await reach(stack, number)
    await until(lambda: depths(stack), lambda found: found == [0, 0, 0, 0])
    assert await (await stack.write()).fetchval("select count(*) from write.dead_letters") == 0
    await assert_nothing_to_correct(services, stack)


@pytest.mark.parametrize("outage", OUTAGES)
async def test_no_batch_is_given_up_while_statements_fail(
    services: ServiceProcesses, stack: Stack, sender: Registered, outage: str
) -> None:
    read = await stack.read()
    begin, end = OUTAGES[outage]
    await change_schema(read, begin)
    for start in range(0, 40, 10):
        await send(services, sender, range(start, start + 10))

    # more often than any count of a broker
    least = 3 if outage == "statements take too long" else topology.DELIVERY_LIMIT + 5
    await until(lambda: retries(services, "outage"), lambda number: number >= least)
    assert await read.fetchval("select count(*) from read.applied_batches where consumer = 'projector'") == 0
    await change_schema(read, end)

    await assert_applied_once(services, stack, 40)


async def test_no_batch_is_given_up_because_its_consumer_is_killed_again_and_again(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read = await stack.read()
    begin, end = OUTAGES["a right is missing"]
    await change_schema(read, begin)
    for start in range(0, 40, 10):
        await send(services, sender, range(start, start + 10))

    for _ in range(topology.DELIVERY_LIMIT + 3):
        await until(lambda: ready(services, "projector"), lambda answer: "waiting for its database" in answer[1])
        await services.kill("projector")
        services.launch("projector")
    await change_schema(read, end)

    await assert_applied_once(services, stack, 40)


async def test_a_group_that_takes_too_long_is_halved_until_it_fits(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await services.stop("projector")
    seconds = TIME_LIMIT_S / 40
    await change_schema(await stack.read(), FAIL.format(name="%", action=f"perform pg_sleep({seconds});"))
    for start in range(0, 120, 10):
        await send(services, sender, range(start, start + 10))
    await until(lambda: depths(stack), lambda found: found[0] == 12)

    await services.start("projector")

    await reach(stack, 120)
    assert await retries(services, "outage") >= 1
    assert await retries(services, "failure") == 0


async def test_a_batch_that_takes_longer_than_any_group_may_is_applied_and_lets_others_pass(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    action = f"perform pg_sleep({TIME_LIMIT_S * 1.5});"
    await change_schema(await stack.read(), FAIL.format(name="slow", action=action))
    await send(services, sender, range(1), eventName="slow")
    await until(lambda: retries(services, "outage"), bool)

    await send(services, sender, range(1, 21))

    await until(lambda: projected(stack), lambda number: number == 20)
    await assert_applied_once(services, stack, 21)


async def test_batches_pass_one_that_waits_for_its_next_attempt(stack: Stack, sender: Registered) -> None:
    async with run_services(
        stack, "gateway", *CONSUMERS, settings={**SETTINGS, "TRACKING_RETRY_PAUSE_S": "60"}
    ) as services:
        read = await stack.read()
        await change_schema(read, POISON)
        await send(services, sender, range(3), eventName="poison")
        await until(lambda: retries(services, "failure"), lambda number: number == 1)

        for start in range(3, 63, 10):
            await send(services, sender, range(start, start + 10))
        await until(lambda: both(stack), lambda counts: counts == (60, 63))

        assert await retries(services, "failure") == 1
        assert await metric(services, "projector", 'tracking_batches_waiting{consumer="projector"}') == 1
        await change_schema(read, CURE)
    async with run_services(stack, *CONSUMERS, settings=SETTINGS) as services:
        await assert_applied_once(services, stack, 63)


ATTEMPTS = "select coalesce(max(deliveries), 0) from read.apply_failures where consumer = 'projector'"


def is_at_least(least: int) -> Callable[[int], bool]:
    return lambda number: number >= least


async def test_attempts_are_counted_across_restarts(stack: Stack, sender: Registered) -> None:
    read = await stack.read()
    async with run_services(stack, "gateway", *CONSUMERS, settings=SETTINGS) as services:
        await change_schema(read, FAIL.format(name="poison", action="perform pg_sleep(1); raise exception 'no';"))
        await send(services, sender, range(3), eventName="poison")
        for least in (1, 3, 5):
            await until(lambda: read.fetchval(ATTEMPTS), is_at_least(least))
            await services.kill("projector")
            await services.start("projector")

        await reach_states(stack, ("open", 1))

        write = await stack.write()
        assert await write.fetchval("select deliveries from write.dead_letters") in (MAX_ATTEMPTS, MAX_ATTEMPTS + 1)
        await send(services, sender, range(3, 23))
        await until(lambda: both(stack), lambda counts: counts == (20, 23))


SLEEPING = """
select count(*)
  from pg_stat_activity
 where application_name like 'tracking-projector%'
   and wait_event = 'PgSleep'
   and datname = current_database()
"""


async def test_a_batch_that_ends_its_process_each_time_is_given_up_and_its_neighbours_are_applied(
    stack: Stack, sender: Registered
) -> None:
    read, write = await stack.read(), await stack.write()
    settings = {**SETTINGS, "TRACKING_QUERY_TIMEOUT_S": "60"}
    async with run_services(stack, "gateway", *CONSUMERS, settings=settings) as services:
        await change_schema(read, FAIL.format(name="killer", action="perform pg_sleep(50);"))
        await services.stop("projector")
        await send(services, sender, range(2), eventName="killer")
        for start in range(2, 42, 10):
            await send(services, sender, range(start, start + 10))
        await services.start("projector")

        async def is_killing() -> int:
            given_up = await write.fetchval("select count(*) from write.dead_letters")
            return -1 if given_up else int(await read.fetchval(SLEEPING))

        while await until(is_killing, bool) > 0:
            await services.kill("projector")
            await until(lambda: read.fetchval(SLEEPING.replace("count(*)", END_SLEEP)), lambda ended: not ended)
            await services.start("projector")

        await reach_states(stack, ("open", 1))
        await until(lambda: projected(stack), lambda number: number == 40)
        assert "ended" in await write.fetchval("select error from write.dead_letters")


END_SLEEP = "count(pg_terminate_backend(pid))"


async def test_a_dead_letter_that_cannot_be_saved_is_taken_from_the_broker_once(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    write = await stack.write()
    await change_schema(write, "revoke insert on write.dead_letters from tracking_relay")
    await change_schema(await stack.read(), POISON)
    await send(services, sender, range(2), eventName="poison")
    gone = 'tracking_dead_letters_total{consumer="projector",reason="not_applicable"}'
    await until(lambda: metric(services, "projector", gone), lambda number: number == 1)
    await until(lambda: depths(stack), lambda found: found == [0, 0, 0, 0])
    steps = 'tracking_batches_unapplied{consumer="projector"}'
    await until(lambda: metric(services, "relay", steps), lambda number: number == 1)

    # in the relay's hands, and not given back: a queue of RabbitMQ 4.0 would drop it when that was done 20 times
    for _ in range(20):
        assert (await depths(stack))[1] == 0
    await change_schema(write, "grant insert on write.dead_letters to tracking_relay")

    await reach_states(stack, ("open", 1))
