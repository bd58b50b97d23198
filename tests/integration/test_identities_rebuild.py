"""Identity links from an SDK's request to the response about an actor, and rebuilt from the write database alone."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.http_client import http_client
from tests.support.read_model import add_token
from tests.support.rebuild import (
    EMPTY,
    JUSTIFIED,
    LINKS,
    QUICK,
    WORKERS,
    assert_exact,
    next_millisecond,
    reach,
    rebuild,
    send,
    send_mixed,
)
from tests.support.registry import Registered, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

MARCH = {"startDate": "2026-03-01T00:00:00Z", "endDate": "2026-03-31T23:59:59Z"}


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


def message(kind: str, day: int, **values: Any) -> dict[str, Any]:
    return {"type": kind, "event": "Viewed", "timestamp": f"2026-03-{day:02}T12:00:00Z", **values}


VISIT = [
    message("track", 1, anonymousId="phone"),
    message("page", 2, anonymousId="laptop"),
    message("track", 3, anonymousId="stranger"),
    message("identify", 4, anonymousId="laptop", userId="ann@old.example", traits={"plan": "pro"}),
    message("track", 5, anonymousId="laptop", userId="bob"),
    message("alias", 6, previousId="ann@old.example", userId="ann"),
    message("track", 7, userId="ann"),
]


async def test_a_visitor_and_the_user_it_became_are_one_actor_from_request_to_answer(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    sender, other = senders[0], senders[1]
    await services.start("query")
    async with http_client(base_url=services.url("gateway"), auth=(sender.api_key, ""), timeout=20) as client:
        await client.post("/v1/batch", json={"batch": VISIT})
        await client.post("/v1/batch", json={"batch": VISIT[:3]}, auth=(other.api_key, ""))
        native = {
            "eventName": "identify", "eventType": "identify", "userId": "ann", "anonymousId": "phone",
            "eventTimestamp": "2026-03-08T12:00:00Z",
        }  # fmt: skip
        await client.post("/api/events/ingest", json=native)
    await reach(stack, len(VISIT) + 4)
    headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
    async with http_client(base_url=services.url("query"), headers=headers, timeout=20) as client:

        async def ask(path: str = "", sender: Registered = sender, **parameters: Any) -> Any:
            answer = await client.get(f"/api/events/partner-system/{sender.system_id}{path}", params=MARCH | parameters)
            assert answer.status_code == 200, answer.text
            return answer.json()

        async def of_actor(**given: Any) -> list[str]:
            answer = await ask(mergeIdentities="true", **given)
            return sorted(event["eventTimestamp"][8:10] for event in answer["events"])

        async def seen() -> tuple[list[str], list[str], list[int]]:
            plain = await ask("/statistics", uniqueActors="true")
            merged = await ask("/statistics", uniqueActors="true", mergeIdentities="true")
            apart = await ask("/statistics", other, uniqueActors="true", mergeIdentities="true")
            numbers = [answer["uniqueActors"] for answer in (plain, merged, apart)]
            return await of_actor(userId="ann"), await of_actor(anonymousId="laptop"), numbers

        ann = ["01", "02", "04", "06", "07", "08"]
        expected = (ann, ann, [6, 3, 3])
        assert await seen() == expected
        assert await of_actor(userId="bob") == ["05"]

        await services.stop("projector", "statistics")
        await (await stack.read()).execute(EMPTY)
        client.headers["Authorization"] = f"Bearer {await add_token(stack, 'admin')}"  # the others went too
        await rebuild(stack)

        assert await seen() == expected
    await assert_exact(stack)


async def test_devices_that_send_a_placeholder_stay_apart_also_after_a_rebuild(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    sender, devices = senders[0], ("phone", "laptop", "tablet")
    await services.start("query")
    async with http_client(base_url=services.url("gateway"), auth=(sender.api_key, ""), timeout=20) as client:
        for device, text in zip(devices, ("undefined", " Undefined", '"undefined"'), strict=True):
            messages = [
                message("track", 1, anonymousId=device),
                message("identify", 2, anonymousId=device, userId=text),
                message("alias", 3, anonymousId=device, userId=text, previousId=device),
                message("alias", 4, userId=f"user of {device}", previousId=text),
            ]
            assert (await client.post("/v1/batch", json={"batch": messages})).json()["refused"] == 0
    await reach(stack, 12)

    async def actors() -> list[int]:
        headers = {"Authorization": f"Bearer {await add_token(stack, 'admin')}"}
        async with http_client(base_url=services.url("query"), headers=headers, timeout=20) as client:
            path = f"/api/events/partner-system/{sender.system_id}/statistics"
            parameters = MARCH | {"uniqueActors": "true"}
            asked = [
                await client.get(path, params=parameters | {"mergeIdentities": word}) for word in ("false", "true")
            ]
            return [answer.json()["uniqueActors"] for answer in asked]

    assert await actors() == [6, 6]
    assert await (await stack.read()).fetch(LINKS) == []

    await services.stop("projector", "statistics")
    await (await stack.read()).execute(EMPTY)
    await rebuild(stack)
    assert await actors() == [6, 6]
    await assert_exact(stack)


DAMAGE = """
delete from read.identities where abs(hashtext(id)) % 4 = 0;
update read.identities set user_id = 'wrong' where abs(hashtext(id)) % 4 = 1;
update read.identities set linked_at = linked_at - interval '9 years', user_id = 'early'
 where abs(hashtext(id)) % 4 = 2;
update read.identities set linked_at = linked_at + interval '9 years' where abs(hashtext(id || kind)) % 4 = 3;
"""

# an event that nobody stored came before all others
INVENT = """
insert into read.identities
select partner_system_id, 'user', 'invented', 'somebody', now(), gen_random_uuid() from read.identities group by 1;
update read.identities set event_id = gen_random_uuid(), linked_at = '1999-01-01', user_id = 'nobody'
 where kind = 'anonymous';
"""


async def test_links_that_were_damaged_become_what_their_events_say(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send_mixed(services, stack, senders)
    await services.stop(*WORKERS)
    read = await stack.read()
    before = await read.fetch(LINKS)
    versions = await read.fetch("select * from read.identity_versions order by 1")
    await read.execute(DAMAGE)

    repaired = await rebuild(stack)

    assert len(before) > 50
    assert await read.fetch(LINKS) == before
    await assert_exact(stack)
    assert repaired.result["deletedLinks"] > 0
    assert repaired.result["repairedLinks"] > repaired.result["deletedLinks"]
    raised = await read.fetch("select * from read.identity_versions order by 1")
    assert all(now["version"] > was["version"] for now, was in zip(raised, versions, strict=True))


async def test_a_rebuild_of_right_links_touches_none(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send_mixed(services, stack, senders)
    read = await stack.read()
    links = "select *, ctid, xmax::text from read.identities order by 1, 2, 3"
    versions = "select * from read.identity_versions order by 1"
    before = await read.fetch(links), await read.fetch(versions)

    for arguments in ([], ["--delete-strays"], ["--from", "2020-01-01"]):
        done = await rebuild(stack, *arguments)
        assert (done.result["repairedLinks"], done.result["deletedLinks"]) == (0, 0)

    assert (await read.fetch(links), await read.fetch(versions)) == before


async def test_links_of_events_that_nobody_stored_go_when_asked(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    await send_mixed(services, stack, senders)
    await services.stop(*WORKERS)
    read, write = await stack.read(), await stack.write()
    await read.execute(INVENT)
    invented = await read.fetchval("select count(*) from read.identities where user_id in ('somebody', 'nobody')")

    kept = await rebuild(stack)
    assert kept.result["deletedLinks"] == 0
    assert await read.fetchval("select count(*) from read.identities where user_id = 'somebody'") == 3
    finished = await rebuild(stack, "--delete-strays")

    assert finished.result["deletedLinks"] == invented
    assert await read.fetch(LINKS) == await write.fetch(JUSTIFIED)


async def test_a_rebuild_of_a_range_adds_the_links_of_its_events_and_takes_none(
    services: ServiceProcesses, stack: Stack, senders: list[Registered]
) -> None:
    moments = [await next_millisecond()]
    for number, user in enumerate(("early", "middle", "late")):
        at = f"2026-0{number + 1}-01T00:00:00Z"
        ids: dict[str, Any] = {"eventName": "identify", "eventType": "identify", "userId": user, "eventTimestamp": at}
        await send(services, senders[0], [ids | {"anonymousId": "shared"}, ids | {"anonymousId": user}])
        moments.append(await next_millisecond())
    await reach(stack, 6)
    await services.stop(*WORKERS)
    read = await stack.read()
    await read.execute("truncate read.identities")

    async def users() -> dict[str, str]:
        return {row["id"]: row["user_id"] for row in await read.fetch(LINKS)}

    await rebuild(stack, "--from", moments[1].isoformat(), "--to", moments[2].isoformat(), "--delete-strays")
    assert await users() == {"shared": "middle", "middle": "middle"}
    await read.execute(
        "insert into read.identities select partner_system_id, 'user', 'x', 'y', linked_at, event_id"
        " from read.identities where id = 'shared'"
    )
    await rebuild(stack, "--from", moments[2].isoformat())
    assert await users() == {"shared": "middle", "middle": "middle", "late": "late", "x": "y"}
    await rebuild(stack, "--to", moments[1].isoformat())
    assert await users() == {"shared": "early", "middle": "middle", "late": "late", "early": "early", "x": "y"}

    await rebuild(stack)

    assert await users() == {"shared": "early", "middle": "middle", "late": "late", "early": "early"}
