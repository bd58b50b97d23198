"""The baseline design of the benchmarks works as the specification says: it stores, flags, copies and counts events."""

from typing import Any

from tests.load.comparisons import baseline
from tests.support.http_client import http_client
from tests.support.polling import until
from tests.support.registry import register_system
from tests.support.stack import Stack


def an_event(name: str, **properties: Any) -> dict[str, Any]:
    return {
        "eventName": name,
        "eventTimestamp": "2026-11-20T10:30:00Z",
        "userId": "user_1",
        "anonymousId": "anon_1",
        "eventProperties": properties,
    }


async def test_what_it_takes_is_stored_copied_and_counted(stack: Stack) -> None:
    sender = await register_system(stack)
    key = {"apiKey": sender.api_key}
    events = [an_event("page_view", n=n) for n in range(20)] + [an_event("purchase", price="free")]
    async with baseline(stack) as url, http_client(base_url=url) as client:
        single = await client.post("/api/events/ingest", json=key | an_event("purchase", price=5))
        batch = await client.post("/api/events/batch", json=key | {"events": events})
        rejected = await client.post("/api/events/ingest", json={"apiKey": "sk_nobody"} | an_event("page_view"))

        assert (single.status_code, batch.status_code, rejected.status_code) == (202, 202, 401)
        assert single.json()["isValid"] is True
        assert [result["isValid"] for result in batch.json()["results"]] == [True] * 20 + [False]
        owner = await stack.write()
        await until(
            lambda: owner.fetchval("select count(*) from baseline.tracking_events_read_model"),
            lambda copied: copied == 22,
        )
        names = await owner.fetch("select distinct system_name, partner_id from baseline.tracking_events_read_model")
        assert [tuple(row) for row in names] == [("Website", sender.partner_id)]
        asked = {"startDate": "2026-11-20T00:00:00Z", "endDate": "2026-11-21T00:00:00Z"}
        path = f"/api/events/partner-system/{sender.system_id}/statistics"
        for _ in range(2):  # from the table, and from the cache
            statistics = (await client.get(path, params=asked)).json()
            assert statistics == {"page_view": {"total": 20, "valid": 20}, "purchase": {"total": 2, "valid": 1}}
