"""Counts stored events by partner, partner system and event name."""

from collections import Counter
from operator import attrgetter
from typing import Any

from services.gateway.commit.group_commit import CommittedBatch
from services.gateway.events.structure_index import StructureIndex
from tracking.contracts.events_tracked import HasSystemContext
from tracking.infra import metrics

_KIND = attrgetter("partner_system_id.int", "event_name", "is_valid")


class EventMetrics:
    """Counts events by partner, system and name."""

    def __init__(self, structures: StructureIndex) -> None:
        self._structures = structures
        self._labels: dict[tuple[int, str], tuple[Any, Any]] = {}

    def count(self, batch: CommittedBatch) -> None:
        """Count the events that were stored now, and those of them that are invalid."""
        systems = {system.partner_system_id.int: system for system in batch.systems}
        for (partner_system_id, event_name, is_valid), number in Counter(map(_KIND, batch.events)).items():
            ingested, failed = self._counters(systems[partner_system_id], event_name)
            ingested.inc(number)
            if not is_valid:
                failed.inc(number)

    def _counters(self, system: HasSystemContext, event_name: str) -> tuple[Any, Any]:
        # a name becomes a label only if somebody registered it: clients can make up names without end
        name = event_name if self._structures.is_registered(system.partner_id, event_name) else "other"
        label = (system.partner_system_id.int, name)
        found = self._labels.get(label)
        if found is None:
            texts = (str(system.partner_id), str(system.partner_system_id), name)
            found = (metrics.events_ingested.labels(*texts), metrics.validation_failures.labels(*texts))
            self._labels[label] = found
        return found
