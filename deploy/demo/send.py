"""Sends the planned events with the Python client and records the result of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from deploy.demo import DemoError
from deploy.demo.events import DemoPlan, PlannedEvent
from tracking_client import AsyncTracker, Failure, Options, Stored

_MAX_EVENTS_PER_RUN = 2000
_TIMEOUT_S = 30.0
_OPTIONS = Options(
    batch_events=200, queue_events=_MAX_EVENTS_PER_RUN, retry_for_s=15, longest_pause_s=5, close_timeout_s=1
)


@dataclass(slots=True)
class SendResult:
    """The results of a run. `event_ids` are the ids of all acknowledged events, duplicates included."""

    event_ids: set[str] = field(default_factory=set)
    accepted: int = 0
    duplicates: int = 0
    invalid: int = 0
    rejected: int = 0
    retries: int = 0
    faults: list[str] = field(default_factory=list)


class DemoSender:
    """Sends to one gateway address with one API key."""

    def __init__(
        self, gateway_url: str, api_key: str, httpx_options: Mapping[str, Any], options: Options = _OPTIONS
    ) -> None:
        self._tracker = AsyncTracker(
            gateway_url,
            api_key,
            options,
            on_stored=self._note_stored,
            on_error=self._note_failure,
            httpx_options=httpx_options,
        )
        self._planned: dict[str, PlannedEvent] = {}
        self._progress: Callable[[int], None] = lambda _: None
        self._trouble: Failure | None = None
        self.outcome = SendResult()

    async def send(self, plan: DemoPlan, progress: Callable[[int], None]) -> SendResult:
        """Send everything; `progress` is called with the number of events that got a response.

        Raises DemoError at the first event that was neither acknowledged nor rejected because it is no event.
        """
        self._progress = progress
        async with self._tracker as tracker:
            for start in range(0, plan.sent, _MAX_EVENTS_PER_RUN):
                for event in plan.events[start : start + _MAX_EVENTS_PER_RUN]:
                    self._planned[tracker.track(**event.arguments)] = event
                is_done = await tracker.flush(_TIMEOUT_S)
                if self._trouble is not None:
                    raise DemoError(f"the gateway took no events: {self._trouble.code}: {self._trouble.message}")
                if not is_done:
                    raise DemoError(f"no acknowledgement within {_TIMEOUT_S:g} s")
        self.outcome.retries = self._tracker.counts.retries
        return self.outcome

    def _note_stored(self, stored: Stored) -> None:
        outcome = self.outcome
        outcome.event_ids.add(stored.stored_id)
        outcome.accepted += not stored.is_duplicate
        outcome.duplicates += stored.is_duplicate
        outcome.invalid += not stored.is_duplicate and not stored.is_valid
        self._judge(stored.event_id, "valid" if stored.is_valid else "invalid", stored)

    def _note_failure(self, failure: Failure) -> None:
        if failure.code != "invalid_event":
            self._trouble = self._trouble or failure
            return
        self.outcome.rejected += 1
        self._judge(failure.event["eventId"], "refused", failure)

    def _judge(self, event_id: str, actual: str, answer: Stored | Failure) -> None:
        self._progress(1)
        expected = self._planned[event_id].expected_result
        if expected != actual:
            self.outcome.faults.append(f"expected {expected}, the gateway says {actual}: {answer}")
