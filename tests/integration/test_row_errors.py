"""Row errors of PostgreSQL: one event of a group never fails its neighbours, and no transient error of the database
rejects an event."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.registry import Registered, register_system
from tests.support.schema_change import change_schema, end_commits
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

INGEST, BATCH = "/api/events/ingest", "/api/events/batch"
NEIGHBOURS = 40

_RAISE = """
create function write.refuse_bad() returns trigger language plpgsql as $$
begin
    raise exception 'this row is bad' using errcode = '{code}';
end $$;
"""
_TRIGGER = (
    _RAISE
    + """
create trigger refuse_bad before insert on write.tracking_events
    for each row when (new.event_name = 'bad') execute function write.refuse_bad();
"""
)
_AT_COMMIT = (
    _RAISE
    + """
create constraint trigger refuse_bad after insert on write.tracking_events deferrable initially deferred
    for each row when (new.event_name = 'bad') execute function write.refuse_bad();
"""
)
_SKIP = """
create function write.skip_bad() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger skip_bad before insert on write.tracking_events
    for each row when (new.event_name = 'bad') execute function write.skip_bad();
"""
_COLUMN = "alter table write.tracking_events add column n {type} generated always as ({expression}) stored;"
_CAST = _COLUMN.format(type="smallint", expression="(event_properties ->> 'n')::smallint")
_INDEX = "create index on write.tracking_events ((event_properties ->> 'text'));"
# the table as a whole cannot have one, each partition can
_UNIQUE = """
do $$
declare part regclass;
begin
    for part in select inhrelid from pg_inherits where inhparent = 'write.tracking_events'::regclass loop
        execute format('create unique index on %s (user_id)', part);
    end loop;
end $$;
"""
_NO_DEFAULT = """
select write.create_partition('tracking_events', current_date);
alter table write.tracking_events detach partition write.tracking_events_default;
"""
# 8 KiB that do not compress to the third of a page that a btree holds
_LONG = "".join(chr(0x4E00 + (n * n * 7919 + n * 31) % 20_000) for n in range(2_700))

BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "a check": ("alter table write.tracking_events add constraint c check (event_name <> 'bad')", {}),
    "raise exception": (_TRIGGER.format(code="P0001"), {}),
    "a trigger that says not null": (_TRIGGER.format(code="23502"), {}),
    "a routine in another language": (_TRIGGER.format(code="38000"), {}),
    "a trigger at the commit": (_AT_COMMIT.format(code="23514"), {}),
    "a trigger that skips the row": (_SKIP, {}),
    "a number out of range": (_CAST, {"eventProperties": {"n": 70_000}}),
    "a text that is no number": (_CAST, {"eventProperties": {"n": "many"}}),
    "too big for an index": (_INDEX, {"eventProperties": {"text": _LONG}}),
    "another unique index": (_UNIQUE, {"userId": "taken"}),
    # an id that is no name, so that it is placed by its time
    "no partition": (_NO_DEFAULT, {"eventId": str(uuid4()), "eventTimestamp": "2071-05-05T00:00:00Z"}),
}


def envelope(name: str = "good", **changes: Any) -> dict[str, Any]:
    return {"eventName": name, "anonymousId": "anon_1", "eventProperties": {"page": "/"}} | changes


@pytest.fixture
async def sender(stack: Stack) -> Registered:
    """A system whose key works."""
    return await register_system(stack)


@asynccontextmanager
async def a_client(services: ServiceProcesses, sender: Registered) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=200)
    headers = {"X-Api-Key": sender.api_key}
    async with http_client(base_url=services.url("gateway"), headers=headers, limits=limits) as client:
        yield client


async def in_one_group(stack: Stack, client: httpx.AsyncClient, asked: Sequence[Any]) -> list[httpx.Response]:
    """Send all of them while the commit of a first event waits for a lock, so that they gather for the next one."""
    owner = await stack.write()

    async def buffered() -> int:
        name = "tracking_gateway_buffered_events "
        lines = (await client.get("/metrics")).text.splitlines()
        return int(float(next(line.removeprefix(name) for line in lines if line.startswith(name))))

    async with owner.transaction():
        await owner.execute("lock table write.tracking_events in access exclusive mode")
        first = asyncio.create_task(client.post(INGEST, json=envelope()))
        await until(buffered, lambda events: events == 1)
        rest = [asyncio.create_task(client.post(BATCH if "events" in body else INGEST, json=body)) for body in asked]
        events = sum(len(body.get("events", [body])) for body in asked)
        await until(buffered, lambda number: number == 1 + events)
    assert (await first).status_code == 202
    return list(await asyncio.gather(*rest))


async def stored_ids(stack: Stack) -> set[str]:
    owner = await stack.write()
    return {str(row["id"]) for row in await owner.fetch("select id from write.tracking_events")}


async def in_batch_rows(stack: Stack) -> list[str]:
    owner = await stack.write()
    return [str(row[0]) for row in await owner.fetch("select unnest(event_ids) from write.event_batches")]


@pytest.mark.parametrize("fault", BAD)
async def test_a_bad_row_is_rejected_and_its_neighbours_are_stored(
    stack: Stack, sender: Registered, fault: str
) -> None:
    ddl, changes = BAD[fault]
    owner = await stack.write()
    async with run_services(stack, "gateway", settings={"TRACKING_COMMIT_DEADLINE_S": "60"}) as services:
        async with a_client(services, sender) as client:
            # a first one, so that its user id is taken
            before = (await client.post(INGEST, json=envelope(userId="taken"))).json()["eventId"]
            await owner.execute(ddl)
            bad = envelope("bad", **changes)
            twin = envelope(eventId="twin")
            batch = {"events": [envelope(), bad, twin, bad]}
            singles = [envelope() for _ in range(NEIGHBOURS)]

            answers = await in_one_group(stack, client, [*singles[:20], bad, twin, batch, twin, bad, *singles[20:]])

            assert before in await stored_ids(stack)
    good = answers[:20] + answers[25:]
    assert {answer.status_code for answer in good} == {202}
    assert not any("duplicate" in answer.json() for answer in good)
    for rejected in (answers[20], answers[24]):
        assert (rejected.status_code, rejected.json()["code"]) == (400, "not_storable")
    results = answers[22].json()["results"]
    assert [result["status"] for result in results][0::2] == ["accepted", "duplicate"]
    assert {(result["status"], result["code"]) for result in results[1::2]} == {("refused", "not_storable")}
    twins = [answers[21].json(), results[2], answers[23].json()]
    assert len({answer["eventId"] for answer in twins}) == 1
    acknowledged = {answer.json()["eventId"] for answer in good} | {results[0]["eventId"], twins[0]["eventId"]}
    assert acknowledged < await stored_ids(stack)
    assert sorted(await in_batch_rows(stack)) == sorted(await stored_ids(stack))
    assert len(acknowledged) == NEIGHBOURS + 2


async def test_an_error_of_the_table_in_one_row_alone_is_503_for_that_row_alone(
    stack: Stack, sender: Registered
) -> None:
    owner = await stack.write()
    async with run_services(stack, "gateway", settings={"TRACKING_COMMIT_DEADLINE_S": "60"}) as services:
        async with a_client(services, sender) as client:
            await owner.execute(_TRIGGER.format(code="42501"))

            answers = await in_one_group(stack, client, [envelope("bad"), *(envelope() for _ in range(NEIGHBOURS))])

    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "database_unavailable")
    assert {answer.status_code for answer in answers[1:]} == {202}
    assert {answer.json()["eventId"] for answer in answers[1:]} < await stored_ids(stack)


async def test_what_postgresql_says_of_a_row_does_not_show_its_values(stack: Stack, sender: Registered) -> None:
    owner = await stack.write()
    async with run_services(stack, "gateway") as services, a_client(services, sender) as client:
        await owner.execute(BAD["a check"][0])

        answer = await client.post(INGEST, json=envelope("bad", userId="a.person@example.com"))

        assert answer.json()["code"] == "not_storable"
        assert "23514" in answer.json()["message"]
        assert "a.person@example.com" not in answer.text + services.log("gateway")


_BREAK_ALL = _TRIGGER.replace("when (new.event_name = 'bad')", "")
_MEND_ALL = "drop trigger refuse_bad on write.tracking_events"
TROUBLES: dict[str, tuple[str, str]] = {
    "42501 a right is missing": (
        "revoke insert on write.tracking_events from tracking_gateway",
        "grant insert on write.tracking_events to tracking_gateway",
    ),
    "42P01 a table is missing": (
        "alter table write.tracking_events rename to elsewhere",
        "alter table write.elsewhere rename to tracking_events",
    ),
    "42703 a column is missing": (
        "alter table write.tracking_events rename user_id to other",
        "alter table write.tracking_events rename other to user_id",
    ),
    "42501 no batch row": (
        "revoke insert on write.event_batches from tracking_gateway",
        "grant insert on write.event_batches to tracking_gateway",
    ),
    "23514 no batch row": (
        "alter table write.event_batches add constraint c check (false) not valid",
        "alter table write.event_batches drop constraint c",
    ),
    "23514 no partition for now": (
        "alter table write.tracking_events rename to whole;"
        "create table write.tracking_events (like write.whole) partition by range (id);"
        "grant select, insert on write.tracking_events to tracking_gateway",
        "drop table write.tracking_events; alter table write.whole rename to tracking_events",
    ),
    **{
        f"{code} from the server": (_BREAK_ALL.format(code=code), _MEND_ALL)
        for code in ("53100", "53200", "25006", "40001", "55P03", "57014", "58030", "XX000", "0A000", "72000")
    },
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_trouble_of_the_database_is_503_for_all_until_it_is_over(
    stack: Stack, sender: Registered, trouble: str
) -> None:
    breaks, mends = TROUBLES[trouble]
    owner = await stack.write()
    async with run_services(stack, "gateway", settings={"TRACKING_COMMIT_DEADLINE_S": "1"}) as services:
        async with a_client(services, sender) as client:

            async def taken(event_id: str) -> str:
                """On a busy machine a commit may miss the short deadline."""
                body = envelope(eventId=event_id)
                answer = await until(lambda: client.post(INGEST, json=body), lambda answer: answer.status_code == 202)
                return str(answer.json()["eventId"])

            before = await taken("before")
            await change_schema(owner, breaks)

            bodies = [(INGEST, envelope()), (BATCH, {"events": [envelope()] * 40}), (INGEST, envelope())]
            answers = await asyncio.gather(*(client.post(path, json=body) for path, body in bodies))

            await end_commits(owner)
            await change_schema(owner, mends)
            after = await taken("after")
            assert (await client.get("/health/live")).status_code == 200
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable"), answer.text
        assert int(answer.headers["Retry-After"]) >= 1
    assert await stored_ids(stack) == {before, after}


async def test_a_right_that_is_missing_for_keys_and_structures_is_503_and_ends_no_process(
    stack: Stack, sender: Registered
) -> None:
    owner = await stack.write()
    async with run_services(stack, "gateway", settings={"TRACKING_CACHE_TTL_S": "0.1"}) as services:
        async with a_client(services, sender) as client:
            await owner.execute("revoke select on write.api_keys, write.event_structures from tracking_gateway")
            rejected = await client.post(INGEST, json=envelope(), headers={"X-Api-Key": "sk_" + "a" * 32})
            await owner.execute("grant select on write.api_keys, write.event_structures to tracking_gateway")
            unknown = await client.post(INGEST, json=envelope(), headers={"X-Api-Key": "sk_" + "a" * 32})

    assert (rejected.status_code, rejected.json()["code"]) == (503, "database_unavailable")
    assert int(rejected.headers["Retry-After"]) >= 1
    assert unknown.status_code == 401


LIMIT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "sent_at"),
    [
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00.000001Z", "9999-12-31T23:59:59Z"),
        ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"),
        ("1999-12-31T23:59:59.999Z", None),
        ("2100-01-01T00:00:00Z", None),
        ("1969-12-31T23:59:59Z", None),
    ],
)
async def test_a_time_at_the_end_of_the_calendar_is_stored(
    stack: Stack, sender: Registered, at: str, sent_at: str | None
) -> None:
    async with run_services(stack, "gateway") as services, a_client(services, sender) as client:
        body = envelope(eventTimestamp=at, sentAt=sent_at, eventId="e")
        first, again = [await client.post(INGEST, json=body) for _ in range(2)]

    assert (first.status_code, again.status_code) == (202, 202)
    assert (again.json()["duplicate"], again.json()["eventId"]) == (True, first.json()["eventId"])
    assert len(await stored_ids(stack)) == 1


async def test_half_a_surrogate_pair_in_one_event_does_not_make_its_batch_unreadable(
    stack: Stack, sender: Registered
) -> None:
    half = json.dumps(envelope(userId="cut \ud83d", eventProperties={"title": "cut \ud83d", "\ude00": 1}))
    whole = json.dumps(envelope(eventProperties={"title": "\U0001f600"}))
    async with run_services(stack, "gateway") as services, a_client(services, sender) as client:
        batch = await client.post(BATCH, content=f'{{"events": [{whole}, {half}, {whole}]}}')
        lines = await client.post(BATCH, content="\n".join([whole, half, "{", whole]))
        single = await client.post(INGEST, content=half)

    flags = [[e["code"] for e in result["validationErrors"] or ()] for result in batch.json()["results"]]
    assert flags == [[], ["nul_character"], []]
    assert [result["status"] for result in lines.json()["results"]] == ["accepted", "accepted", "refused", "accepted"]
    assert (single.status_code, single.json()["isValid"]) == (202, False)
    owner = await stack.write()
    rows = await owner.fetch(
        "select user_id, event_properties::text as text from write.tracking_events where not is_valid"
    )
    assert [(row["user_id"], json.loads(row["text"])) for row in rows] == [
        ("cut \ufffd", {"title": "cut \ufffd", "\ufffd": 1})
    ] * 3


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "NaN"])
async def test_a_number_beyond_a_double_becomes_null_and_flags_its_event_alone(
    stack: Stack, sender: Registered, number: str
) -> None:
    good = json.dumps(envelope())
    bad = good.replace('"/"', number)
    async with run_services(stack, "gateway") as services, a_client(services, sender) as client:
        single = await client.post(INGEST, content=bad)
        lines = await client.post(BATCH, content="\n".join([good, bad, good]))

    assert (single.status_code, single.json()["isValid"]) == (202, False)
    results = lines.json()["results"]
    assert [(result["status"], result["isValid"]) for result in results] == [
        ("accepted", True),
        ("accepted", False),
        ("accepted", True),
    ]
    assert [error["code"] for error in results[1]["validationErrors"]] == ["number_out_of_range"]
    assert len(await stored_ids(stack)) == 4
