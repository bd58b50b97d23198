"""Sends the planned requests over several connections and keeps what the gateway said became of each event."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from deploy.demo import DemoError
from deploy.demo.events import Plan, PlannedRequest

CONNECTIONS = 8
ATTEMPTS = 8
_LONGEST_PAUSE_S = 5.0
# tried again by any SDK; the other answers are final
_AGAIN = frozenset({429, 500, 502, 503, 504})


@dataclass(slots=True)
class Outcome:
    """What came back. `event_ids` are those of every event acknowledged, new or known before."""

    event_ids: set[str] = field(default_factory=set)
    accepted: int = 0
    duplicates: int = 0
    invalid: int = 0
    refused: int = 0
    retries: int = 0
    faults: list[str] = field(default_factory=list)


class Sender:
    """Sends to one gateway address with one API key."""

    def __init__(self, client: httpx.AsyncClient, gateway_url: str, api_key: str) -> None:
        self._client = client
        self._url = gateway_url
        self._api_key = api_key
        self.outcome = Outcome()

    async def send(self, plan: Plan, progress: Callable[[int], None]) -> Outcome:
        """Send everything, `CONNECTIONS` requests at a time; `progress` is told how many events were acknowledged.

        Raises DemoError at the first request that is not acknowledged and cannot be sent again without doubt.
        """
        waiting = iter(plan.requests)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(CONNECTIONS):
                    tasks.create_task(self._take(waiting, progress))
        except* DemoError as group:
            raise group.exceptions[0] from None
        return self.outcome

    async def _take(self, waiting: Iterator[PlannedRequest], progress: Callable[[int], None]) -> None:
        for request in waiting:
            answer = await self._post(request)
            if request.is_batch:
                self._note_batch(request, answer)
            else:
                self._note_single(request, answer)
            progress(len(request.events))

    async def _post(self, request: PlannedRequest) -> dict[str, Any]:
        trouble = ""
        for attempt in range(ATTEMPTS):
            pause_s = min(0.1 * 2**attempt, _LONGEST_PAUSE_S)
            try:
                answer = await self._once(request)
            except httpx.HTTPError as error:
                trouble, never_left = repr(error), isinstance(error, httpx.ConnectError)
            else:
                if answer.status_code == 202:
                    found: dict[str, Any] = answer.json()
                    return found
                trouble, never_left = f"{answer.status_code} {answer.text[:300]}", answer.status_code == 429
                if answer.status_code not in _AGAIN:
                    raise DemoError(f"the gateway refused a request: {trouble}")
                pause_s = _pause(answer, pause_s)
            if not (request.is_repeatable or never_left):
                raise DemoError(
                    f"an event without an id got no answer, so nobody knows whether it is stored: {trouble}"
                )
            self.outcome.retries += 1
            await asyncio.sleep(pause_s)
        raise DemoError(f"no acknowledgement in {ATTEMPTS} attempts: {trouble}")

    async def _once(self, request: PlannedRequest) -> httpx.Response:
        envelopes = [event.envelope for event in request.events]
        body: dict[str, Any] = {"events": envelopes} if request.is_batch else dict(envelopes[0])
        headers = {}
        if request.key_in_header:
            headers["X-Api-Key"] = self._api_key
        else:
            body["apiKey"] = self._api_key
        path = "/api/events/batch" if request.is_batch else "/api/events/ingest"
        return await self._client.post(self._url + path, json=body, headers=headers)

    def _note_single(self, request: PlannedRequest, answer: dict[str, Any]) -> None:
        is_duplicate = bool(answer.get("duplicate"))
        self.outcome.event_ids.add(answer["eventId"])
        self.outcome.accepted += not is_duplicate
        self.outcome.duplicates += is_duplicate
        self.outcome.invalid += not is_duplicate and not answer["isValid"]
        self._judge(request.events[0].fate, "valid" if answer["isValid"] else "invalid", answer)

    def _note_batch(self, request: PlannedRequest, answer: dict[str, Any]) -> None:
        for name in ("accepted", "duplicates", "invalid", "refused"):
            setattr(self.outcome, name, getattr(self.outcome, name) + answer[name])
        for event, result in zip(request.events, answer["results"], strict=True):
            if result["status"] == "refused":
                self._judge(event.fate, "refused", result)
                continue
            self.outcome.event_ids.add(result["eventId"])
            self._judge(event.fate, "valid" if result["isValid"] else "invalid", result)

    def _judge(self, expected: str, actual: str, answer: dict[str, Any]) -> None:
        if expected != actual:
            self.outcome.faults.append(f"expected {expected}, the gateway says {actual}: {answer}")


def _pause(answer: httpx.Response, otherwise_s: float) -> float:
    wish = answer.headers.get("Retry-After", "")
    return min(float(wish), _LONGEST_PAUSE_S) if wish.isdigit() else otherwise_s
