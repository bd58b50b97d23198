"""Dead letters are kept, listed, retried and discarded, and never hold up other messages."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.integration.test_pipeline import QUICK, WORKERS, both, projected, reach, send
from tests.support.dead_letters import (
    CURE,
    POISON,
    depths,
    done,
    listed,
    metric,
    publish,
    purge,
    reach_states,
    ready,
    volcanion,
)
from tests.support.polling import until
from tests.support.rebuild import assert_counted
from tests.support.registry import Registered, register_system
from tests.support.schema_change import change_schema
from tests.support.service_processes import ROOT, ServiceProcesses, run_services
from tests.support.stack import Stack
from tracking.tables.apply_failures import MAX_ATTEMPTS

EXAMPLES = Path(ROOT) / "libs/tracking/contracts/examples"


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@pytest.fixture
async def services(stack: Stack, sender: Registered) -> AsyncIterator[ServiceProcesses]:
    """Everything that an event passes through; three dead letters stop a worker.

    A batch that fails again and again is in the hands of its worker for seconds on a busy machine, and is not lost.
    """
    settings = {
        **QUICK,
        "TRACKING_DEAD_LETTER_LIMIT": "3",
        "TRACKING_UNAPPLIED_AFTER_S": "8",
        "TRACKING_RETRY_PAUSE_S": "0.005",
    }
    async with run_services(stack, "gateway", *WORKERS, settings=settings) as services:
        yield services


async def test_a_batch_that_cannot_be_applied_is_kept_and_its_neighbours_are_applied(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read = await stack.read()
    await change_schema(read, POISON)
    await send(services, sender, range(10))
    await send(services, sender, range(10, 13), eventName="poison")
    await send(services, sender, range(13, 33))

    await until(lambda: both(stack), lambda counts: counts == (30, 33))
    await reach_states(stack, ("open", 1))

    [letter] = await listed(stack)
    write = await stack.write()
    batch = await write.fetchrow("select id, event_ids from write.event_batches where cardinality(event_ids) = 3")
    assert batch is not None
    told = {name: letter[name] for name in ("consumer", "reason", "batchId", "eventCount", "deliveries", "times")}
    assert told == {
        "consumer": "projector",
        "reason": "not_applicable",
        "batchId": str(batch["id"]),
        "eventCount": 3,
        "deliveries": MAX_ATTEMPTS,
        "times": 1,
    }
    assert "no_poison" in letter["error"]
    assert "Failing row" not in letter["error"] + services.log("projector")
    [system] = letter["partnerSystems"]
    assert (system["id"], system["name"]) == (str(sender.system_id), "Website")
    assert (system["partnerId"], system["partnerName"]) == (str(sender.partner_id), "Partner of Website")
    shown = await done(stack, "show", letter["id"])
    assert all(str(event_id) in shown for event_id in batch["event_ids"])
    assert f'"batchId":"{batch["id"]}"' in shown
    await until(lambda: metric(services, "relay", 'tracking_batches_unapplied{consumer="projector"}'), lambda n: n == 1)
    await until(lambda: metric(services, "relay", 'tracking_dead_letters_open{consumer="projector"}'), lambda n: n == 1)
    assert await metric(services, "relay", 'tracking_oldest_unapplied_seconds{consumer="projector"}') > 0
    assert await metric(services, "relay", 'tracking_batches_unapplied{consumer="statistics"}') == 0
    kept = 'tracking_dead_letters_total{consumer="projector",reason="not_applicable"}'
    await until(lambda: metric(services, "projector", kept), lambda n: n == 1)
    assert (await ready(services, "projector"))[0] == 200
    assert await depths(stack) == [0, 0, 0, 0]


async def test_a_retried_batch_is_applied_once_however_often_it_is_retried(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read = await stack.read()
    await change_schema(read, POISON)
    await send(services, sender, range(4), eventName="poison")
    await reach_states(stack, ("open", 1))
    await change_schema(read, CURE)
    await services.stop("projector")

    [letter] = await listed(stack)
    for _ in range(2):
        assert "retried" in await done(stack, "retry", letter["id"])
        await until(lambda: depths(stack), lambda found: found[0] > 0)
    await services.start("projector")

    await reach_states(stack, ("applied", 1))
    await send(services, sender, range(4, 10))
    await reach(stack, 10)
    await assert_counted(stack)
    assert await depths(stack) == [0, 0, 0, 0]
    again = await volcanion(stack, "retry", letter["id"])
    assert (again.returncode, again.stdout) == (1, "no dead letters\n")
    assert "has been applied" in again.stderr


async def test_a_retried_batch_that_fails_again_is_open_again(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await change_schema(await stack.read(), POISON)
    await send(services, sender, range(1), eventName="poison")
    await reach_states(stack, ("open", 1))

    await done(stack, "retry", "--all", "--consumer", "projector")

    await reach_states(stack, ("open", 2))


async def test_a_retried_batch_that_is_lost_on_its_way_is_sent_again(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read = await stack.read()
    await change_schema(read, POISON)
    await send(services, sender, range(2), eventName="poison")
    await reach_states(stack, ("open", 1))
    await change_schema(read, CURE)
    await services.stop("projector")
    await done(stack, "retry", "--all", "--consumer", "projector")
    await until(lambda: depths(stack), lambda found: found[0] == 1)

    await purge(stack, "tracking.projector")
    await services.start("projector")

    await reach(stack, 2)
    await reach_states(stack, ("applied", 1))


PROGRESS = "select applied_through, pending_batches, open_dead_letters from read.consumer_progress where consumer = $1"


async def test_progress_waits_for_an_open_dead_letter_and_moves_on_when_it_is_discarded(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read, write = await stack.read(), await stack.write()
    await change_schema(read, POISON)
    await send(services, sender, range(1), eventName="poison")
    await reach_states(stack, ("open", 1))
    await send(services, sender, range(1, 6))

    async def progress() -> Sequence[Any]:
        return tuple(await read.fetchrow(PROGRESS, "projector") or ())

    born = await write.fetchval("select min(created_at) from write.event_batches")
    await until(progress, lambda told: told == (born, 1, 1))

    assert "discarded" in await done(stack, "discard", (await listed(stack))[0]["id"])

    assert (await until(progress, lambda told: told[1:] == (0, 0)))[0] > born
    await reach_states(stack, ("discarded", 1))
    assert await listed(stack) == []
    # a mistake of the operator's can be undone
    await change_schema(read, CURE)
    [letter] = await listed(stack, "--state", "discarded")
    await done(stack, "retry", letter["id"])
    await reach(stack, 6)
    await reach_states(stack, ("applied", 1))


async def test_too_many_dead_letters_stop_a_worker_until_they_are_decided(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await publish(stack, b"one", b"two", b"three")

    _, said = await until(lambda: ready(services, "projector"), lambda answer: answer[0] == 503)

    assert "3 dead letters (limit 3): retry or discard them" in said
    await reach_states(stack, ("open", 1), ("open", 1), ("open", 1))
    assert "3 dead letters (limit 3): retry or discard them" in services.log("projector")
    assert await metric(services, "projector", 'tracking_consumer_paused{consumer="projector"}') == 1
    await services.stop("projector")
    services.launch("projector")
    await send(services, sender, range(5))
    await until(lambda: both(stack), lambda counts: counts[1] == 5)
    await until(lambda: ready(services, "projector"), lambda answer: "(limit 3)" in answer[1])
    assert await projected(stack) == 0

    await done(stack, "discard", "--all", "--consumer", "projector")

    await reach(stack, 5)
    await services.ready("projector")
    assert await metric(services, "projector", 'tracking_consumer_paused{consumer="projector"}') == 0


async def test_a_message_nobody_can_read_is_kept_as_it_came(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await publish(stack, b"not ours \xff\x00\x1b[31m", message_id="who\x00 knows", headers={"x-death": "none"})
    await send(services, sender, range(20))

    await reach(stack, 20)
    await reach_states(stack, ("open", 1))

    [letter] = await listed(stack, "--consumer", "projector")
    assert (letter["reason"], letter["batchId"], letter["eventCount"]) == ("unreadable", None, 0)
    assert (letter["deliveries"], letter["partnerSystems"], letter["messageId"]) == (1, [], "who\ufffd knows")
    assert "not an events_tracked.v1" in letter["error"]
    shown = await done(stack, "show", letter["id"])
    assert "not ours" in shown
    assert "\x1b" not in shown + await done(stack, "list")
    await done(stack, "retry", letter["id"])
    await reach_states(stack, ("open", 2))
    await done(stack, "discard", letter["id"])
    await reach_states(stack, ("discarded", 2))


@pytest.mark.parametrize(
    ("encoding", "body", "fault"),
    [
        ("zstd", b"not compressed at all", "the body is not zstd"),
        ("zstd", zstandard.ZstdCompressor().compress(b"cut off")[:-3], "the body is not zstd"),
        ("gzip", b"whatever", "content-encoding 'gzip'"),
    ],
)
async def test_a_body_that_is_not_what_its_encoding_says_is_kept_as_it_came(
    services: ServiceProcesses, stack: Stack, sender: Registered, encoding: str, body: bytes, fault: str
) -> None:
    await publish(stack, body, content_encoding=encoding)
    await send(services, sender, range(20))

    await reach(stack, 20)
    await reach_states(stack, ("open", 1))

    [letter] = await listed(stack)
    assert letter["reason"] == "unreadable"
    assert fault in letter["error"]
    assert await (await stack.write()).fetchval("select body from write.dead_letters") == body


async def test_a_dead_letter_that_the_broker_hands_over_twice_is_one(services: ServiceProcesses, stack: Stack) -> None:
    await publish(stack, b"garbage", b"garbage", b"rubbish", queue="tracking.statistics.dead")

    await reach_states(stack, ("open", 2), ("open", 1))
    assert {letter["consumer"] for letter in await listed(stack)} == {"statistics"}


async def test_a_spoilt_copy_of_a_batch_that_was_applied_settles_itself(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await send(services, sender, range(3))
    await reach(stack, 3)
    batch_id = await (await stack.write()).fetchval("select id from write.event_batches")

    await publish(stack, b"{", message_id=str(batch_id))

    await reach_states(stack, ("applied", 1))


async def test_a_batch_the_write_database_does_not_know_is_retried_as_it_came(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    read = await stack.read()
    body = (EXAMPLES / "events_tracked.v1.good.one_event.json").read_bytes()
    name = json.loads(body)["events"]["eventName"][0]
    await change_schema(read, POISON.replace("poison'", f"{name}'"))
    await publish(stack, body)
    await reach_states(stack, ("open", 1))
    assert await read.fetchval("select pending_batches from read.consumer_progress where consumer = 'projector'") == 0
    await change_schema(read, CURE)

    await done(stack, "retry", (await listed(stack))[0]["id"])

    await reach_states(stack, ("applied", 1))
    assert await projected(stack) == 1


async def test_the_table_for_people_says_what_when_whose_and_why(
    services: ServiceProcesses, stack: Stack, sender: Registered
) -> None:
    await change_schema(await stack.read(), POISON)
    await send(services, sender, range(2), eventName="poison")
    await reach_states(stack, ("open", 1))

    heading, line, reason, count = (await done(stack, "list")).splitlines()

    assert heading.split("  ")[0].strip() == "ID"
    assert all(word in line for word in ("projector", "open", "not_applicable", "Website"))
    assert "no_poison" in reason
    assert count == "1"
    assert await done(stack, "list", "--state", "discarded") == "no dead letters\n"
