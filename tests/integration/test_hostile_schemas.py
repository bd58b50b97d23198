"""Hostile schemas through the API: registered with admin, met by events at the gateway. Nothing runs, nothing is
fetched, nothing hangs, nothing is ignored; every event is stored."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.admin_api import a_system, administrator
from tests.support.costly_schemas import hostile, nested
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.registry import publish_structure, register_system
from tests.support.service_processes import ServiceProcesses, run_services
from tests.support.stack import Stack

NAMES = [
    "{}", "{0}", "{data}", "{data.__class__}", "%s%n", '"""', "'); {run}; ('", '"); {run}; ("', '"]); {run}; (["',
    "\n{run}\n", "\\", '\\"', "{{", "}}", "#", "$ref", "a/b~c", "é\u2028",
]  # fmt: skip
CATASTROPHIC = ["(a+)+$", "(a|a)*b", "(a*)*b", "^(aa?)*b", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*=", "a+b"]


@dataclass(frozen=True, slots=True)
class Edge:
    """Both services with a key."""

    admin: httpx.AsyncClient
    gateway: httpx.AsyncClient
    services: ServiceProcesses

    async def register(self, name: str, schema: Any) -> httpx.Response:
        """Register the schema as an object; it may be rejected."""
        return await self.admin.post("/api/eventstructures", json={"eventName": name, "schema": schema})

    async def send(self, name: str, *properties: Any) -> list[list[str]]:
        """The error codes of each event; all must be stored."""
        events = [{"eventName": name, "userId": "u", "eventProperties": value} for value in properties]
        response = await self.gateway.post("/api/events/batch", json={"events": events})
        assert response.status_code == 202, response.text
        results = response.json()["results"]
        assert {result["status"] for result in results} == {"accepted"}, response.text
        return [[error["code"] for error in result["validationErrors"] or ()] for result in results]

    async def known(self) -> None:
        """Wait until the gateway knows what is registered by now."""
        assert (await self.register("the last", {"required": ["a"]})).status_code == 201
        await until(lambda: self.send("the last", {}), lambda codes: codes == [["required"]])


@asynccontextmanager
async def an_edge(stack: Stack) -> AsyncIterator[Edge]:
    async with run_services(stack, "admin", "gateway") as services, administrator(services) as admin:
        headers = {"X-Api-Key": (await a_system(admin))["apiKey"]}
        async with http_client(base_url=services.url("gateway"), headers=headers, timeout=30) as gateway:
            yield Edge(admin, gateway, services)


async def test_code_in_names_and_values_is_text(stack: Stack, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    run = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    names = [name.replace("{run}", run) for name in NAMES] + [run, f"{{{run}}}"]
    async with an_edge(stack) as edge:
        for number, name in enumerate(names):
            schema = {
                "title": name,
                "description": name,
                "default": {name: name},
                "examples": [name],
                "type": "object",
                "required": [name],
                "properties": {name: {"enum": [name, 1]}, "x": {"const": {name: [name]}}, "y": {"required": [name]}},
                "dependencies": {name: [name], f"d{name}": [f"e{name}"], f"f{name}": {"required": [name]}},
                "patternProperties": {"^z": {"const": name}},
                "definitions": {name: {"type": "null"}},
            }
            response = await edge.register(f"names {number}", schema)
            assert response.status_code == 201, (name, response.text)
        await edge.known()
        for number, name in enumerate(names):
            good = {name: name, "x": {name: [name]}, "z": name}
            bad = [{}, {name: [name]}, {name: 1, "x": name}, {name: 1, f"d{name}": 1}, {name: 1, "z": 1}]

            codes = await edge.send(f"names {number}", good, *bad)

            assert codes == [[], ["required"], ["enum"], ["const"], ["dependencies"], ["const"]], name
    assert not mark.exists()


async def test_no_reference_leads_out_of_the_schema(stack: Stack) -> None:
    visits: list[object] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    outside = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/schema.json"
    references = [
        outside,
        f"{outside}#/a",
        "file:///etc/passwd",
        "/etc/passwd",
        "other.json",
        "#name",
        "//a/b",
        "data:,{}",
    ]
    async with server, an_edge(stack) as edge:
        for reference in references:
            for schema in (
                {"$ref": reference},
                {"properties": {"a": {"$ref": reference}}},
                {"$id": outside, "items": {"$ref": reference}},
                {"dependencies": {"a": {"$ref": reference}}},
            ):
                response = await edge.register("outside", schema)
                assert (response.status_code, response.json()["code"]) == (400, "invalid_schema"), schema
        # past admin, as an older version might have stored it
        await publish_structure(stack, "stored", {"$ref": outside})
        await edge.known()

        assert await edge.send("stored", {}, {"a": 1}) == [["schema_faulty"]] * 2
        assert (await edge.register("data", {"const": {"$ref": outside}, "$id": outside})).status_code == 201
    assert visits == []


async def test_names_of_references_that_collide_are_kept_apart(stack: Stack) -> None:
    names = {"Money": "integer", "money": "string", "m_oney": "null", "m oney": "boolean", "m-oney": "array"}
    schema = {
        "definitions": {name: {"type": type_} for name, type_ in names.items()},
        "properties": {name: {"$ref": f"#/definitions/{name.replace(' ', '%20')}"} for name in names},
    }
    async with an_edge(stack) as edge:
        response = await edge.register("collide", schema)
        assert response.status_code == 201, response.text
        await edge.known()
        good = {"Money": 1, "money": "1", "m_oney": None, "m oney": True, "m-oney": []}

        [right, wrong] = await edge.send("collide", good, {name: {} for name in names})

    assert (right, wrong) == ([], ["type"] * 5)


def _doubling(levels: int) -> dict[str, Any]:
    names: dict[str, Any] = {f"d{n}": {"allOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(levels)}
    return {"definitions": names | {f"d{levels}": {"type": "string"}}, "$ref": "#/definitions/d0"}


_DEEP = '{"not":' * 20_000 + "{}" + "}" * 20_000
REJECTED: dict[str, Any] = {
    "unhashable type": {"type": [["string"]]},
    "type of an object": {"type": {"a": 1}},
    "multipleOf 0": {"properties": {"a": {"multipleOf": 0}}},
    "multipleOf 0.0": {"multipleOf": 0.0},
    "recursion": {"$ref": "#"},
    "recursion in two steps": {
        "definitions": {"a": {"anyOf": [{"$ref": "#"}]}},
        "allOf": [{"$ref": "#/definitions/a"}],
    },
    "references that multiply": _doubling(30),
    "33 levels": nested(33, {}),
    "20 000 levels as text": _DEEP,
    "501 sub-schemas": {"properties": {f"p{n}": {} for n in range(501)}},
    "a long pattern": {"pattern": "a" * 257},
    "a large pattern": {"pattern": "(a{1,100}){1,100}"},
    "look-ahead": {"pattern": "^(?=a)"},
    "a back-reference": {"pattern": "(a)\\1"},
    "a keyword nobody knows": {"requierd": ["a"]},
    "a later draft's keyword": {"dependentRequired": {"a": ["b"]}},
    "an unknown format": {"format": "colour"},
    "another draft": {"$schema": "https://json-schema.org/draft/2020-12/schema"},
    "66 KiB": {"description": "x" * 66_000},
    "200 KiB as text": json.dumps({"description": "x" * 200_000}),
    "2 000 names": {"required": [f"n{n}" for n in range(2_000)]},
    "U+0000": {"const": "\x00"},
}


async def test_what_cannot_be_decided_rightly_is_rejected_with_its_place(stack: Stack) -> None:
    async with an_edge(stack) as edge:
        for why, schema in REJECTED.items():
            response = await edge.register(why, schema)

            assert (response.status_code, response.json()["code"]) == (400, "invalid_schema"), (why, response.text)
            assert all(detail["field"] and detail["message"] for detail in response.json()["details"]), why
            assert len(response.text) < 20_000, why
        megabytes = await edge.register("megabytes", {"description": "x" * 8_000_000})
        assert megabytes.status_code == 413
        listed = (await edge.admin.get("/api/eventstructures")).json()
        assert listed["totalCount"] == 0


async def test_a_hostile_schema_past_admin_flags_its_events_and_holds_nobody_up(stack: Stack) -> None:
    harmful = {why: schema for why, schema in REJECTED.items() if isinstance(schema, dict) and why != "U+0000"}
    for why, schema in harmful.items():
        await publish_structure(stack, why, schema)
    async with an_edge(stack) as edge:
        for why in harmful:
            assert await edge.send(why, {"a": 1}) == [["schema_faulty"]], why
            assert await edge.send("harmless", {"a": 1}) == [[]]


@pytest.mark.parametrize("keyword", ["pattern", "patternProperties"])
async def test_a_catastrophic_pattern_is_harmless(stack: Stack, keyword: str) -> None:
    text = "a" * 60_000 + "!"
    async with an_edge(stack) as edge:
        for number, pattern in enumerate(CATASTROPHIC):
            inner = {"properties": {"a": {"pattern": pattern}}} if keyword == "pattern" else {keyword: {pattern: False}}
            assert (await edge.register(f"pattern {number}", inner)).status_code == 201, pattern
        await edge.known()
        for number in range(len(CATASTROPHIC)):
            # answered at all: what backtracks needs more than the client's 30 s
            codes = await edge.send(f"pattern {number}", {"a": text}, {text: "a"})
            assert all(set(found) <= {"pattern", "pattern_properties"} for found in codes), codes


async def test_the_dearest_schemas_with_the_dearest_events_are_answered(stack: Stack) -> None:
    pairs = list(hostile())
    async with an_edge(stack) as edge:
        for name, schema, _ in pairs:
            response = await edge.register(name, schema)
            assert response.status_code == 201, (name, response.text)
        await edge.known()

        answers = await asyncio.gather(*(edge.send(name, properties, {"v": 0}) for name, _, properties in pairs))

        assert (await edge.gateway.get("/health/live")).status_code == 200
    codes = {code for answer in answers for found in answer for code in found}
    assert "validation_too_costly" in codes
    assert "schema_faulty" not in codes
    owner = await stack.write()
    assert await owner.fetchval("select count(*) from write.tracking_events") >= 2 * len(pairs)


async def test_events_of_another_partner_do_not_meet_a_partners_hostile_schema(stack: Stack) -> None:
    mine, other = await register_system(stack), await register_system(stack, "Other")
    await publish_structure(stack, "shared", {"$ref": "#"}, partner_id=mine.partner_id)
    async with run_services(stack, "gateway") as services:
        async with http_client(base_url=services.url("gateway"), timeout=20) as client:
            event = {"eventName": "shared", "userId": "u", "eventProperties": {}}
            answers = [
                (await client.post("/api/events/ingest", json=event | {"apiKey": key})).json()
                for key in (mine.api_key, other.api_key)
            ]

    assert [answer["isValid"] for answer in answers] == [False, True]
