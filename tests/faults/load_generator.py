"""`python -m tests.faults.load_generator`: sends events as SDKs do until its input ends, then records each result.

A process of its own, so that it neither slows the checker nor dies with what is killed. What was not answered, or
answered with "try again", is repeated with the same ids until there is an answer. Events without ids of their own are
sent once: unanswered, nobody can know, and they count as unknown. Not the Python client: that hides single attempts,
gives every event an id, and what is judged here must not depend on it.
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import httpx
import uvloop

from tests.faults.ledger import Attempt, Ledger, Sent
from tests.faults.request_mix import PlannedRequest, RequestMix, SenderSystem

TIMEOUT_S = 8.0
_TIMEOUT_S = 45.0
_PAUSE_S = (0.1, 0.5)


@dataclass(slots=True)
class LoadPlan:
    """The plan of a load. `per_second` requests are shared by `senders`, each of which has one connection.

    A sender begins at one of `url` and `other_urls` in turn, and sends each repeat to the next one.
    """

    url: str
    systems: list[SenderSystem]
    seed: int
    file: str = ""
    other_urls: list[str] = field(default_factory=list)
    timeout_s: float = TIMEOUT_S
    per_second: float = 120.0
    senders: int = 24
    certificate: str | None = None

    def to_json(self) -> str:
        """For the process's input."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "LoadPlan":
        """Parse a plan that `to_json` wrote."""
        known = json.loads(text)
        known["systems"] = [SenderSystem(**system) for system in known["systems"]]
        return cls(**known)


class LoadGenerator:
    """Several senders that share the supply of requests."""

    def __init__(self, plan: LoadPlan) -> None:
        self.ledger = Ledger()
        self._plan = plan
        self._requests = RequestMix(plan.systems, plan.seed)
        self._rng = Random(plan.seed)  # noqa: S311
        self._stopping = asyncio.Event()
        self._give_up_at = float("inf")
        self._urls = [plan.url, *plan.other_urls]

    async def run(self) -> None:
        """Send until standard input ends, then until everything repeatable is answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._plan.senders):
                tasks.create_task(self._send_on_and_on(number))
            await asyncio.to_thread(sys.stdin.read)
            self._give_up_at = time.monotonic() + _TIMEOUT_S
            self._stopping.set()
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.ledger.ended_at = time.monotonic()
        self.ledger.cpu_share = (used.ru_utime + used.ru_stime) / (self.ledger.ended_at - began)

    async def _send_on_and_on(self, number: int) -> None:
        between_s = self._plan.senders / self._plan.per_second
        options: Any = {"timeout": self._plan.timeout_s, "verify": self._plan.certificate or False, "trust_env": False}
        async with httpx.AsyncClient(**options) as client:
            while not self._stopping.is_set():
                request = self._requests.next()
                self.ledger.events.extend(request.events)
                await self._send(client, request, number)
                number += 1
                await asyncio.sleep(self._rng.expovariate(1 / between_s))

    async def _send(self, client: httpx.AsyncClient, request: PlannedRequest, number: int) -> None:
        for attempt in count(number):
            if await self._attempt(client, request, attempt % len(self._urls), is_repeat=attempt > number):
                return
            if not request.is_repeatable or time.monotonic() > self._give_up_at:
                return
            await asyncio.sleep(self._rng.uniform(*_PAUSE_S))

    async def _attempt(
        self, client: httpx.AsyncClient, request: PlannedRequest, gateway: int, *, is_repeat: bool
    ) -> bool:
        """True if there was an answer that settles the request."""
        sent_at = time.monotonic()
        headers = {"Content-Type": "application/json"}
        try:
            response = await client.post(self._urls[gateway] + request.path, content=request.body, headers=headers)
        except httpx.TransportError:
            self.ledger.attempts.append(Attempt(sent_at, time.monotonic(), 0, gateway, is_repeat))
            return False
        attempt = Attempt(sent_at, time.monotonic(), response.status_code, gateway, is_repeat)
        self.ledger.attempts.append(attempt)
        if response.status_code in (408, 429) or response.status_code >= 500:
            return False
        _settle(request.events, response)
        return True


def _settle(events: list[Sent], response: httpx.Response) -> None:
    if response.status_code != 202:
        for event in events:
            event.outcome = "refused"
        return
    answer = response.json()
    for event, result in zip(events, answer.get("results", [answer]), strict=True):
        event.event_id = result.get("eventId")
        event.outcome = "refused" if result.get("status") == "refused" else "acknowledged"


async def _main() -> None:
    plan = LoadPlan.from_json(sys.stdin.readline())
    load = LoadGenerator(plan)
    await load.run()
    load.ledger.write(Path(plan.file))


if __name__ == "__main__":
    uvloop.run(_main())
