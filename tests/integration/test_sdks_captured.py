"""Requests of the SDKs of Segment and RudderStack, recorded by tests/sdks/capture.py, are sent to the gateway again."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.test_pipeline import QUICK
from tests.sdks.calls import SHORTEST
from tests.sdks.capture import CAPTURED, KEY
from tests.sdks.run import (
    SERVICES,
    SdkRow,
    compare,
    events,
    querying,
    statistics,
    statistics_differences,
    until_visible,
)
from tests.sdks.sdks import SDKS, Sent, calls_of
from tests.support.http_client import http_client
from tests.support.registry import Registered, register_system
from tests.support.service_processes import run_services
from tests.support.stack import Stack

FILES = sorted(CAPTURED.glob("*.json"))
BY_NAME = {sdk.name: sdk for sdk in SDKS}
Message = Mapping[str, Any]


def content(request: Mapping[str, Any], api_key: str) -> bytes:
    """Its body, with this key in it if there is one."""
    if "bodyBase64" in request:
        return base64.b64decode(request["bodyBase64"])
    return str(request.get("body", "")).replace(KEY, api_key).encode()


def messages(request: Mapping[str, Any]) -> Sequence[Message]:
    """Return the messages of the request, each with the `sentAt` that applies to it."""
    if request["method"] != "POST":
        return []
    body = content(request, KEY)
    found = json.loads(gzip.decompress(body) if "content-encoding" in request["headers"] else body)
    sent_at = {"sentAt": found["sentAt"]} if "sentAt" in found else {}
    return [sent_at | message for message in found.get("batch", [found])]


async def replay(client: httpx.AsyncClient, captured: Mapping[str, Any], sender: Registered) -> None:
    """Every request in its order; a repeat is among them."""
    basic = base64.b64encode(f"{sender.api_key}:".encode()).decode()
    for request in captured["requests"]:
        headers = dict(request["headers"])
        if "authorization" in headers:
            headers["authorization"] = f"Basic {basic}"
        body = content(request, sender.api_key)
        target = request["target"].replace(KEY, sender.api_key)
        answer = await client.request(request["method"], target, headers=headers, content=body)
        is_preflight = request["method"] == "OPTIONS"
        assert answer.status_code == (204 if is_preflight else 200), (captured["sdk"], request["target"], answer.text)
        if request["method"] == "POST":
            assert answer.json()["success"] is True
        if "origin" in headers:
            assert answer.headers["access-control-allow-origin"] == headers["origin"]


def faults_of_first_copies(sent: Sequence[Message], found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Events without the context, or the times corrected by the sender's clock, of the first copy of their message."""
    firsts: dict[str, Message] = {}
    for message in sent:
        firsts.setdefault(message["messageId"], message)
    faults = []
    for event in found:
        message = firsts[event["messageId"]]
        original, sent_at = (_time(message.get("timestamp") or message["originalTimestamp"]), _time(message["sentAt"]))
        wanted = (original, _time(event["receivedAt"]) - (sent_at - original), True)
        shown = (_time(event["originalTimestamp"]), _time(event["eventTimestamp"]), event["clockAdjusted"])
        if abs(wanted[1] - shown[1]) > timedelta(milliseconds=1) or (wanted[0], wanted[2]) != (shown[0], shown[2]):
            faults.append(f"{message['type']}: {shown}, not {wanted}")
        if not message["context"].items() <= event["context"].items():
            faults.append(f"{message['type']}: {event['context']}, not {message['context']}")
    return faults


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_each_sdk_was_captured_with_every_type_and_a_repeat() -> None:
    captured = [json.loads(file.read_text()) for file in FILES]

    assert {one["sdk"] for one in captured} == {sdk.name for sdk in SDKS}
    for one in captured:
        sent = [message for request in one["requests"] for message in messages(request)]
        kinds = {"track", "identify", "page", "screen", "group", "alias"}
        assert {message["type"] for message in sent} == kinds - BY_NAME[one["sdk"]].lacks
        assert len(sent) > len({message["messageId"] for message in sent}) == SHORTEST


async def test_what_was_captured_is_stored_once_as_it_was_meant(stack: Stack) -> None:
    rows = []
    async with run_services(stack, *SERVICES, settings=QUICK) as services:
        async with http_client(base_url=services.url("gateway"), timeout=20) as client:
            for captured in (json.loads(file.read_text()) for file in FILES):
                told = calls_of(BY_NAME[captured["sdk"]], SHORTEST)
                row = SdkRow(captured["sdk"], captured["version"], sent=SHORTEST)
                sender = await register_system(stack, row.sdk)
                await replay(client, captured, sender)
                await until_visible(stack, sender.system_id, SHORTEST)
                async with querying(services, stack) as query:
                    found = await events(query, sender.system_id)
                    row.wrong += statistics_differences(told, await statistics(query, sender.system_id))
                compare(row, told, Sent(row.version, captured["messageIds"]), found)
                sent = [message for request in captured["requests"] for message in messages(request)]
                row.wrong += faults_of_first_copies(sent, found)
                rows.append(row)

    assert len(rows) == len(SDKS)
    assert [row for row in rows if not row.is_good] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_captured_tells_of_the_machine_it_was_captured_on(file: Path) -> None:
    captured = json.loads(file.read_text())

    for request in captured["requests"]:
        body = content(request, KEY)
        text = (gzip.decompress(body) if "content-encoding" in request["headers"] else body).decode()
        assert not {word for word in ("127.0.0.1", "localhost", "/work", "/root", "/home") if word in text}
        assert "sk_" not in text.replace(KEY, "")
