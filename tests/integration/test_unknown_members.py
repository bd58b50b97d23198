"""On every route an event with other names is stored with what was meant, and an unknown member with a flag."""

import json

import pytest

from tests.support.http_client import http_client
from tests.support.registry import register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

SELECT_STORED = """
select event_name, user_id, event_properties, context, validation_errors
  from write.tracking_events
"""
EVENT = {"user_id": "u", "properties": {"price": 5}, "timestamp": "2026-01-02T03:04:05Z", "color": "red"}
ROUTES = {
    "/api/events/ingest": {"event": "order", **EVENT},
    "/api/events/batch": {"events": [{"event_name": "order", **EVENT}]},
    "/v1/track": {"eventName": "order", **EVENT},
    "/v1/batch": {"batch": [{"type": "track", "eventName": "order", **EVENT}]},
    "/v1/beacon": {"batch": [{"type": "track", "event": "order", **EVENT}]},
}


@pytest.mark.parametrize("path", ROUTES)
async def test_no_member_of_an_event_vanishes(stack: Stack, path: str) -> None:
    sender = await register_system(stack)
    async with run_services(stack, "gateway") as services:
        headers = {"X-Api-Key": sender.api_key}
        async with http_client(base_url=services.url("gateway"), headers=headers, timeout=20) as client:
            answer = await client.post(path, json=ROUTES[path])
    assert answer.status_code in (200, 202), answer.text

    [row] = await (await stack.write()).fetch(SELECT_STORED)

    assert (row["event_name"], row["user_id"]) == ("order", "u")
    assert json.loads(row["event_properties"]) == {"price": 5}
    assert json.loads(row["context"])["$unknown"] == {"color": "red"}
    [error] = json.loads(row["validation_errors"])
    assert (error["code"], error["path"]) == ("unknown_member", "/color")
