"""`read.identities` as the projector writes it: the result does not depend on the order of the links."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.projector.project import project
from tests.support.events import an_event
from tests.support.identity_events import OTHER, START, SYSTEM, alias, batch, connect, identify
from tests.support.stack import Stack
from tracking.contracts.events_tracked import EventsTracked
from tracking.domain.ids import make_uuid7
from tracking.domain.timestamps import to_unix_ms

LINKS = """
select partner_system_id, kind, id, user_id, linked_at, event_id
  from read.identities
 order by 1, 2, 3
"""
FINAL = "select id, final_user_id from read.final_users($1) order by id"


async def links_after(stack: Stack, batches: Sequence[EventsTracked]) -> list[tuple[Any, ...]]:
    """The links when these batches, and nothing else, were applied one after the other."""
    owner = await stack.read()
    await owner.execute("truncate read.identities, read.identity_versions, read.tracking_events_read_model")
    connection = await connect(stack)
    try:
        for given in batches:
            async with connection.transaction():
                await project(connection, [given])
    finally:
        await connection.close()
    return [tuple(row) for row in await owner.fetch(LINKS)]


async def final(stack: Stack, system: UUID = SYSTEM) -> dict[str, str]:
    owner = await stack.read()
    return {row["id"]: row["final_user_id"] for row in await owner.fetch(FINAL, system)}


async def test_the_order_in_which_batches_come_does_not_matter(stack: Stack) -> None:
    batches = [
        batch(identify(5, "a", "u2"), identify(9, "b", "u1")),
        batch(identify(3, "a", "u1"), alias(4, "u1", "u3")),
        batch(identify(3, "a", "u4", OTHER), alias(2, "u1", "u2")),
        batch(alias(7, "u2", "u1"), identify(4, "b", "u3")),
    ]

    states = [await links_after(stack, order) for order in itertools.permutations(batches)]

    assert all(state == states[0] for state in states)
    assert [(system.int, kind, id_, user) for system, kind, id_, user, *_ in states[0]] == [
        (1, "anonymous", "a", "u1"),
        (1, "anonymous", "b", "u3"),
        (1, "anonymous", "u1", "u2"),
        (1, "anonymous", "u2", "u1"),
        (1, "user", "u1", "u2"),
        (1, "user", "u2", "u1"),
        (2, "anonymous", "a", "u4"),
    ]


async def test_of_events_at_the_same_time_the_one_with_the_smaller_id_is_believed(stack: Stack) -> None:
    first, second = sorted((identify(1, "a", "u1"), identify(1, "a", "u2")), key=lambda event: event.id)

    for order in ([first, second], [second, first]):
        for batches in ([batch(*order)], [batch(event) for event in order]):
            [link] = await links_after(stack, batches)
            assert (link[3], link[5]) == (first.user_id, first.id)


async def test_a_device_whose_clock_is_far_behind_wins_no_link_against_a_true_time(stack: Stack) -> None:
    system = make_uuid7(to_unix_ms(START), 7)
    at_1970 = identify(0, "a", "wrong", system, received_at=START + timedelta(seconds=50))
    at_1970 = at_1970._replace(event_timestamp=datetime(1970, 1, 1, tzinfo=UTC))

    for order in itertools.permutations(
        [at_1970, identify(20, "a", "right", system), identify(60, "a", "late", system)]
    ):
        [link] = await links_after(stack, [batch(event) for event in order])
        assert link[3:5] == ("right", START + timedelta(seconds=20))
    # alone it links, from the time at which it was received
    [link] = await links_after(stack, [batch(at_1970)])
    assert link[3:5] == ("wrong", at_1970.received_at)


async def test_a_shared_device_does_not_make_two_known_users_one(stack: Stack) -> None:
    await links_after(stack, [batch(identify(1, "tablet", "ann"), identify(2, "tablet", "bob"))])

    assert await final(stack) == {}


async def test_what_repeats_changes_neither_links_nor_their_version(stack: Stack) -> None:
    event = identify(1, "a", "u1")
    owner = await stack.read()
    before = await links_after(stack, [batch(event)])
    version = await owner.fetch("select * from read.identity_versions")
    place = await owner.fetch("select ctid, xmax::text from read.identities")
    connection = await connect(stack)

    for again in (identify(2, "a", "u1"), identify(3, "a", "u2")):
        async with connection.transaction():
            await project(connection, [batch(again)])
    await connection.close()

    assert [tuple(row) for row in await owner.fetch(LINKS)] == before
    assert await owner.fetch("select * from read.identity_versions") == version
    assert await owner.fetch("select ctid, xmax::text from read.identities") == place


async def test_each_change_of_a_link_raises_the_version_of_its_system_alone(stack: Stack) -> None:
    owner = await stack.read()
    versions = []
    for given in ([], [batch(identify(5, "a", "u1"))], [batch(identify(3, "a", "u2")), batch(identify(1, "b", "x"))]):
        connection = await connect(stack)
        for one in given:
            async with connection.transaction():
                await project(connection, [one])
        await connection.close()
        versions.append(await owner.fetchval("select max(version) from read.identity_versions"))
    await links_after(stack, [batch(identify(1, "c", "y", OTHER))])

    assert versions[0] is None
    assert versions[2] >= versions[1] + 2
    assert await owner.fetchval("select array_agg(partner_system_id) from read.identity_versions") == [OTHER]


async def test_events_that_say_nothing_of_ids_leave_no_link(stack: Stack) -> None:
    silent = [
        an_event(SYSTEM, uuid4(), user_id="u", anonymous_id="a"),
        an_event(SYSTEM, uuid4(), user_id="u", anonymous_id="a", event_type="page"),
        identify(1, "a", "u")._replace(user_id=None),
        identify(1, "a", "u")._replace(anonymous_id=None),
        alias(1, "", "u"),
        alias(1, "x" * 256, "u"),
        alias(1, "", "u", event_properties=b'{"previousId": 7}'),
        alias(1, "", "u", event_properties=b'{"previousId": {"id": "a"}}'),
        alias(1, "", "u", event_properties=b'{"$raw": ["previousId"]}'),
        alias(1, "", "u", event_properties=b'{"n": ' + b"9" * 5_000 + b"}"),
    ]

    assert await links_after(stack, [batch(*silent)]) == []


async def test_an_alias_is_about_both_kinds_of_id(stack: Stack) -> None:
    links = await links_after(
        stack, [batch(alias(1, "a", "u"), alias(2, "same", "same"), alias(3, "", "v", anonymous_id="device"))]
    )

    assert [link[1:4] for link in links] == [
        ("anonymous", "a", "u"),
        ("anonymous", "device", "v"),
        ("anonymous", "same", "same"),
        ("user", "a", "u"),
    ]


async def test_chains_are_followed_to_their_end(stack: Stack) -> None:
    chain = [alias(n, f"u{n}", f"u{n + 1}") for n in range(1000)]
    side = [alias(9, "x", "u500"), alias(9, "y", "x"), alias(9, "apart", "z"), alias(9, "u0", "v", OTHER)]
    random.Random(7).shuffle(chain)  # noqa: S311

    await links_after(stack, [batch(*chain, *side)])

    assert await final(stack) == {**{f"u{n}": "u1000" for n in range(1000)}, "x": "u1000", "y": "u1000", "apart": "z"}
    assert await final(stack, OTHER) == {"u0": "v"}


async def test_a_circle_is_one_user_and_so_is_what_leads_into_it(stack: Stack) -> None:
    long = [alias(n, f"c{n:03}", f"c{(n + 1) % 300:03}") for n in range(300)]
    tail = [alias(1, f"t{n}", f"t{n + 1}" if n < 49 else "c123") for n in range(50)]
    pair = [alias(1, "p", "q"), alias(2, "q", "p"), alias(3, "to_pair", "q")]
    straight = [alias(1, "m", "n"), alias(1, "n", "o")]

    await links_after(stack, [batch(*long, *tail, *pair, *straight)])

    users = await final(stack)
    assert {users[f"c{n:03}"] for n in range(300)} | {users[f"t{n}"] for n in range(50)} == {"c000"}
    assert (users["p"], users["q"], users["to_pair"]) == ("p", "p", "p")
    assert (users["m"], users["n"]) == ("o", "o")


def follow(links: dict[str, str], user: str) -> str:
    seen: list[str] = []
    while user in links and user not in seen:
        seen.append(user)
        user = links[user]
    return min(seen[seen.index(user) :]) if user in seen else user


async def test_any_links_lead_where_following_them_one_by_one_leads(stack: Stack) -> None:
    chance = random.Random(42)  # noqa: S311
    owner = await stack.read()
    for size in (1, 2, 3, 5, 8, 13, 40, 200):
        for _ in range(6):
            users = [f"u{n}" for n in range(size)]
            links = {user: chance.choice(users) for user in users if chance.random() < 0.9}
            links = {user: other for user, other in links.items() if user != other}
            await owner.execute("truncate read.identities")
            await owner.executemany(
                "insert into read.identities values ($1, 'user', $2, $3, now(), gen_random_uuid())",
                [(SYSTEM, user, other) for user, other in links.items()],
            )

            assert await final(stack) == {user: follow(links, user) for user in links}


async def test_workers_side_by_side_never_lock_each_other_out(stack: Stack) -> None:
    chance = random.Random(3)  # noqa: S311
    given = [
        batch(*(identify(chance.randrange(1000), f"a{chance.randrange(50)}", f"u{n}") for n in range(100)))
        for _ in range(40)
    ]
    expected = await links_after(stack, given)
    owner = await stack.read()
    await owner.execute("truncate read.identities, read.tracking_events_read_model")

    async def work(mine: Sequence[EventsTracked]) -> None:
        connection = await connect(stack)
        for one in mine:
            async with connection.transaction():
                await project(connection, [one])
        await connection.close()

    async with asyncio.TaskGroup() as workers:
        for number in range(4):
            workers.create_task(work(given[number::4]))

    assert [tuple(row) for row in await owner.fetch(LINKS)] == expected
