"""Checks by query that the statistics equal the sent events and that both ways of paging list the acknowledged ones."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from deploy.demo import DemoError
from deploy.demo.events import DAYS_BACK, DemoPlan
from deploy.demo.target import DemoSystem, Target

DEADLINE_S = 60.0
PAGE_SIZE = 500
_POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class StatisticsRow:
    """One line of the table."""

    name: str
    sent: int
    counted: int


class QueryClient:
    """The query service's view of one system, over a range that holds everything the run sent."""

    def __init__(self, client: httpx.AsyncClient, target: Target, system: DemoSystem, started: datetime) -> None:
        self._client = client
        self._url = f"{target.query_url}/api/events/partner-system/{system.id}"
        self._headers = {"Authorization": f"Bearer {target.admin_token}"}
        start, end = started - timedelta(days=DAYS_BACK + 1), started + timedelta(hours=1)
        self._range = {"startDate": f"{start:%Y-%m-%dT%H:%M:%SZ}", "endDate": f"{end:%Y-%m-%dT%H:%M:%SZ}"}

    async def wait_for(self, count: int) -> tuple[dict[str, Any], float]:
        """The statistics once they have `count` events, and the seconds that took; the last ones at the deadline."""
        started = time.monotonic()
        while True:
            found = await self._get("/statistics", self._range)
            waited = time.monotonic() - started
            if found["totalEvents"] >= count or waited > DEADLINE_S:
                return found, waited
            await asyncio.sleep(_POLL_S)

    async def listed(self, count: int) -> tuple[Counter[str], Counter[str]]:
        """`{event id: how often it was listed}` by page number and by cursor, once the list has `count` events.

        The list is the projector's work and the statistics are another's: either may be ahead. Whatever is there at
        the deadline is returned.
        """
        started = time.monotonic()
        while True:
            by_number = await self._by_number()
            if len(by_number) >= count or time.monotonic() - started > DEADLINE_S:
                return by_number, await self._by_cursor()
            await asyncio.sleep(_POLL_S)

    async def _by_number(self) -> Counter[str]:
        seen: Counter[str] = Counter()
        number = 1
        while True:
            page = await self._get("", {**self._range, "pageNumber": str(number), "pageSize": str(PAGE_SIZE)})
            seen.update(_ids(page))
            if len(page["events"]) < PAGE_SIZE:
                return seen
            number += 1

    async def _by_cursor(self) -> Counter[str]:
        seen: Counter[str] = Counter()
        async for page in self._cursor_pages():
            seen.update(_ids(page))
        return seen

    async def _cursor_pages(self) -> AsyncIterator[dict[str, Any]]:
        parameters = {**self._range, "pageSize": str(PAGE_SIZE)}
        while True:
            page = await self._get("", parameters)
            yield page
            if not page["nextCursor"]:
                return
            parameters["cursor"] = page["nextCursor"]

    async def _get(self, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        try:
            answer = await self._client.get(self._url + path, params=parameters, headers=self._headers)
        except httpx.HTTPError as error:
            raise DemoError(f"the query service does not answer: {error!r}") from error
        if answer.status_code != 200:
            raise DemoError(f"query: {answer.url} answered {answer.status_code}: {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found


def compare(plan: DemoPlan, statistics: dict[str, Any]) -> list[StatisticsRow]:
    """Return sent and counted numbers side by side: a row for each event name, then valid, invalid and all events."""
    sent, counted = plan.counts(), dict(statistics["eventCounts"])
    names = sorted({*sent, *counted}, key=lambda name: (-sent.get(name, 0), name))
    rows = [StatisticsRow(name, sent.get(name, 0), counted.get(name, 0)) for name in names]
    total, invalid = len(plan.stored), plan.invalid()
    return [
        *rows,
        StatisticsRow("valid", total - invalid, statistics["validEvents"]),
        StatisticsRow("invalid", invalid, statistics["invalidEvents"]),
        StatisticsRow("all", total, statistics["totalEvents"]),
    ]


def differences(way: str, seen: Counter[str], acknowledged: set[str]) -> list[str]:
    """Describe the errors in a list of events; empty if it has each acknowledged event once and nothing else."""
    twice = sum(1 for times in seen.values() if times > 1)
    found = {
        "acknowledged but not listed": len(acknowledged - seen.keys()),
        "listed but never acknowledged": len(seen.keys() - acknowledged),
        "listed more than once": twice,
    }
    return [f"{way}: {number} events {what}" for what, number in found.items() if number]


def _ids(page: dict[str, Any]) -> list[str]:
    return [event["eventId"] for event in page["events"]]
