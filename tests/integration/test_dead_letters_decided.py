"""Decisions about dead letters by the routes of admin, and decisions that the command line rejects."""

from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from tests.support.admin_api import administrator
from tests.support.dead_letters import done, volcanion
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


INSERT = """
insert into write.dead_letters
       (id, consumer, batch_id, is_batch, message_id, reason, error, deliveries, partner_system_ids, event_ids,
        body, body_sha256, body_bytes, state)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""


async def keep(
    stack: Stack, number: int, *, consumer: str = "projector", state: str = "open", body_bytes: int = 4, **given: Any
) -> str:
    """A dead letter as the relay would have kept it; its id."""
    owner = await stack.write()
    batch_id = UUID(int=number) if given.get("is_batch", True) else None
    systems = given.get("systems", [])
    values = (batch_id is not None, str(number), "not_applicable", "it broke", 21, systems, [UUID(int=1), UUID(int=2)])
    body = b"body"
    await owner.execute(
        INSERT, UUID(int=number), consumer, batch_id, *values, body, sha256(body).digest(), body_bytes, state
    )
    return str(UUID(int=number))


async def test_the_administration_lists_shows_and_decides(stack: Stack, sender: Registered) -> None:
    nobody = UUID(int=404)
    ids = [
        await keep(stack, 1, systems=[sender.system_id, nobody]),
        await keep(stack, 2, consumer="statistics"),
        await keep(stack, 3, state="discarded"),
        await keep(stack, 4, state="applied"),
    ]
    async with run_services(stack, "admin") as services, administrator(services) as admin:
        every = (await admin.get("/api/deadletters", params={"pageSize": 3})).json()
        assert [item["id"] for item in every["items"]] == ids[:3]
        assert every["totalCount"] == 4
        narrow = (await admin.get("/api/deadletters", params={"consumer": "projector", "state": "open"})).json()
        assert [item["id"] for item in narrow["items"]] == ids[:1]
        first = narrow["items"][0]
        assert (first["eventCount"], first["deliveries"], first["error"]) == (2, 21, "it broke")
        assert [(system["name"], system["partnerName"]) for system in first["partnerSystems"]] == [
            ("Website", "Partner of Website"),
            (None, None),
        ]
        whole = (await admin.get(f"/api/deadletters/{ids[0]}")).json()
        assert (whole["eventIds"], whole["bodyStart"]) == ([str(UUID(int=1)), str(UUID(int=2))], "body")

        decided = [
            (await admin.post(f"/api/deadletters/{id_}/{what}")).json()
            for id_, what in ((ids[0], "retry"), (ids[1], "discard"), (ids[2], "retry"), (ids[1], "discard"))
        ]

        assert [letter["state"] for letter in decided] == ["retried", "discarded", "retried", "discarded"]
        assert all(letter["decidedAt"] for letter in decided)
        assert decided[1] == decided[3]
        answers = [
            await admin.post(f"/api/deadletters/{ids[3]}/retry"),
            await admin.post(f"/api/deadletters/{ids[3]}/discard"),
            await admin.post(f"/api/deadletters/{nobody}/retry"),
            await admin.get("/api/deadletters/x"),
            await admin.get("/api/deadletters", params={"state": "lost"}),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
            (409, "dead_letter_applied"),
            (409, "dead_letter_applied"),
            (404, "dead_letter_not_found"),
            (404, "not_found"),
            (400, "invalid_parameters"),
        ]


async def test_what_was_too_large_to_be_kept_whole_can_only_be_discarded(stack: Stack) -> None:
    cut = await keep(stack, 1, is_batch=False, body_bytes=2_000_000)

    rejected = await volcanion(stack, "retry", cut)

    assert rejected.returncode == 1
    assert "too large to be kept whole: discard it" in rejected.stderr
    await done(stack, "discard", cut)


async def test_a_command_says_what_is_wrong_with_it(stack: Stack) -> None:
    nobody = "01a207f2-a638-7270-bb82-7447d7b761e9"
    for words, status, said in (
        (("show", nobody), 1, f"There is no dead letter {nobody}"),
        (("retry", nobody), 1, "There is no dead letter"),
        (("retry",), 2, "say which"),
        (("discard", "--all"), 2, "say which"),
        (("discard", nobody, "--all", "--consumer", "projector"), 2, "say which"),
        (("discard", "x"), 2, "'x' is no id"),
        (("list", "--consumer", "nobody"), 2, "invalid choice"),
        (("list", "--limit", "-1"), 2, "limit"),
        ((), 2, "usage"),
    ):
        answer = await volcanion(stack, *words)
        assert answer.returncode == status, (words, answer)
        assert said in answer.stderr, words
    away = await volcanion(stack, "list", TRACKING_WRITE_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (away.returncode, away.stdout) == (3, "")
    assert "does not answer" in away.stderr
