"""The public JSON Schema test suite (draft-07) through the API: registered with admin, sent to the gateway.

Schemas that registration accepts give the results that the suite expects.
docs/promises.md has the numbers; a test keeps them.
"""

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.support.admin_api import a_system, administrator
from tests.support.http_client import http_client
from tests.support.json_schema_suite import Group, Part, as_property, groups
from tests.support.polling import until
from tests.support.service_processes import run_services
from tests.support.stack import Stack

# Why a schema is refused, by the beginning of the reason; each refuses rather than decides wrongly.
REASONS = {
    "only references into this schema": "remote or by name",
    "only at the top and without a fragment": "$id below the top",
    "has no effect": "without effect",
    "unknown, so it would be ignored": "unknown format",
    "is no keyword of draft-07": "unknown keyword",
    "not a pattern we can run": "pattern",
    "which PostgreSQL cannot store": "U+0000",
    "draft-07 ignores what stands beside it": "beside $ref",
}
EXPECTED: dict[Part, dict[str, int]] = {
    "required": {
        "right": 796,
        "refused: remote or by name": 41,
        "refused: unknown format": 36,
        "refused: $id below the top": 18,
        "refused: without effect": 15,
        "refused: U+0000": 4,
        "refused: beside $ref": 3,
    },
    "optional": {
        "right": 403,
        "refused: unknown format": 137,
        "refused: pattern": 4,
        "refused: $id below the top": 3,
        "refused: unknown keyword": 3,
        "refused: remote or by name": 2,
    },
}


async def registered(admin: httpx.AsyncClient, name: str, group: Group) -> str | None:
    """Return None, or the reason why the schema was rejected."""
    response = await admin.post("/api/eventstructures", json={"eventName": name, "schema": as_property(group.schema)})
    if response.status_code == 201:
        return None
    assert (response.status_code, response.json()["code"]) == (400, "invalid_schema"), (group.name, response.text)
    reason = response.json()["details"][0]["message"]
    return next((why for start, why in REASONS.items() if start in reason), reason)


async def decided(gateway: httpx.AsyncClient, name: str, group: Group) -> list[bool]:
    """Whether each case was found valid."""
    events = [{"eventName": name, "anonymousId": "a", "eventProperties": {"value": data}} for _, data, _ in group.cases]
    response = await gateway.post("/api/events/batch", json={"events": events})
    assert response.status_code == 202, (group.name, response.text)
    results = response.json()["results"]
    assert {result["status"] for result in results} == {"accepted"}, (group.name, response.text)
    # U+0000 is flagged whatever the schema says
    codes = [{error["code"] for error in result["validationErrors"] or ()} - {"nul_character"} for result in results]
    assert not any(found & {"schema_faulty", "schema", "validation_too_costly"} for found in codes), group.name
    return [not found for found in codes]


@pytest.mark.parametrize("part", ["required", "optional"])
async def test_every_case_of_the_suite_is_decided_rightly_or_its_schema_is_rejected(stack: Stack, part: Part) -> None:
    counts: Counter[str] = Counter()
    wrong: list[Any] = []
    everything = list(enumerate(groups(part)))
    async with run_services(stack, "admin", "gateway") as services, administrator(services) as admin:
        rejections = {number: await registered(admin, f"suite-{number}", group) for number, group in everything}
        await admin.post("/api/eventstructures", json={"eventName": "the last", "schema": {"required": ["a"]}})
        headers = {"X-Api-Key": (await a_system(admin))["apiKey"]}
        async with http_client(base_url=services.url("gateway"), headers=headers, timeout=30) as gateway:

            async def is_valid() -> Any:
                event = {"eventName": "the last", "userId": "u", "eventProperties": {}}
                return (await gateway.post("/api/events/ingest", json=event)).json()["isValid"]

            await until(is_valid, lambda found: found is False)
            for number, group in everything:
                rejection = rejections[number]
                if rejection is not None:
                    counts[f"refused: {rejection}"] += len(group.cases)
                    continue
                answers = await decided(gateway, f"suite-{number}", group)
                for (case, data, expected), answer in zip(group.cases, answers, strict=True):
                    counts["right" if answer == expected else "wrong"] += 1
                    if answer != expected:
                        wrong.append((group.name, case, data))

    assert wrong == []
    assert dict(counts) == EXPECTED[part]
