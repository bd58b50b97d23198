"""Every metric of every process in one place: name, kind, labels, meaning. Units stand in the names.

The first five names are the specification's (`process_cpu_usage` and `process_memory_usage` read as counters and
gauges of the process; `python_gc_collections_total` is what `dotnet_gc_collections_total` is elsewhere).
"""

import resource
import time
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

connections_ended = Counter(
    "tracking_connections_ended_total", "Connections that were ended because of what the client did.", ["reason"]
)
events_ingested = Counter(
    "volcanion_events_ingested_total",
    "Events committed; event_name is `other` for a name without a registered structure.",
    ["partner_id", "system_id", "event_name"],
)
validation_failures = Counter(
    "volcanion_events_validation_failures_total",
    "Events committed with isValid=false.",
    ["partner_id", "system_id", "event_name"],
)
events_duplicate = Counter("tracking_events_duplicate_total", "Events that were stored before.")
rate_limited = Counter("tracking_events_rate_limited_total", "Events turned away with 429.")
unknown_sender_bytes = Counter(
    "tracking_unknown_sender_bytes_total",
    "Bytes decompressed or parsed for senders whose key was not known when they began.",
)
events_rejected = Counter("tracking_events_refused_total", "Events that could not be stored, by reason.", ["reason"])
rejected_events_dropped = Counter(
    "tracking_refusals_not_kept_total", "Refused events that found no room in the inbox of the refused."
)
commit_events = Histogram(
    "tracking_commit_events",
    "Events in one commit of the gateway.",
    buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
)
commit_seconds = Histogram("tracking_commit_duration_seconds", "One commit of the gateway.", buckets=_FAST)
held_events = Counter(
    "tracking_gateway_held_events_total", "Events tried apart because an unfinished transaction held their id."
)
buffered_events = Gauge("tracking_gateway_buffered_events", "Events that wait for a commit.")
batches_published = Counter("tracking_batches_published_total", "Batches the broker confirmed.", ["service"])
publish_failures = Counter("tracking_publish_failures_total", "Batches left to the relay, by reason.", ["reason"])
batches_unpublished = Gauge("tracking_batches_unpublished", "Batches in the write database without a confirm.")
oldest_unpublished_seconds = Gauge(
    "tracking_oldest_unpublished_seconds", "Age of the oldest batch in the write database without a confirm."
)
sendings_postponed = Gauge(
    "tracking_sendings_postponed", "Batches that the relay could not send, and sends again after a pause.", ["step"]
)
batches_unapplied = Gauge(
    "tracking_batches_unapplied", "Batches not yet proven to be in a consumer's inbox.", ["consumer"]
)
oldest_unapplied_seconds = Gauge(
    "tracking_oldest_unapplied_seconds", "Age of the oldest batch that a consumer lacks.", ["consumer"]
)
batches_republished = Counter(
    "tracking_batches_republished_total", "Batches the relay sent again, by reason.", ["reason"]
)
default_partition_rows = Gauge(
    "tracking_default_partition_rows", "Rows outside every monthly partition; above 0 is an alarm.", ["table"]
)
partitions_waiting = Gauge(
    "tracking_partitions_waiting", "Monthly partitions to create or drop that wait for a lock.", ["database"]
)
events_applied = Counter("tracking_events_applied_total", "Events a consumer applied.", ["consumer"])
apply_retries = Counter(
    "tracking_apply_retries_total",
    "Attempts to apply batches that are made again, by why: outage of the database, or failure of a batch.",
    ["consumer", "reason"],
)
batches_waiting = Gauge(
    "tracking_batches_waiting", "Batches in a consumer's hands that wait for another attempt.", ["consumer"]
)
batches_redelivered = Counter("tracking_batches_redelivered_total", "Batches that were applied before.", ["consumer"])
apply_seconds = Histogram(
    "tracking_apply_duration_seconds", "One transaction of a consumer.", ["consumer"], buckets=_FAST
)
dead_letters = Counter("tracking_dead_letters_total", "Messages given up, by reason.", ["consumer", "reason"])
open_dead_letters = Gauge("tracking_dead_letters_open", "Dead letters that wait for a decision.", ["consumer"])
consumer_paused = Gauge("tracking_consumer_paused", "1 while the limit of dead letters holds a consumer.", ["consumer"])
cache_lookups = Counter(
    "tracking_cache_lookups_total", "Look-ups by where they were answered.", ["cache", "answered_by"]
)
questions = Counter(
    "tracking_questions_total",
    "Questions that query tried to answer, by lane (cheap or heavy) and what came of it: answered, too_slow or busy.",
    ["lane", "result"],
)

_PAGE_BYTES = resource.getpagesize()


class _CpuUsage:
    """The share of one core that the process used since the last scrape."""

    def __init__(self) -> None:
        self._wall_s = time.monotonic()
        self._cpu_s = time.process_time()

    def __call__(self) -> float:
        wall_s, cpu_s = time.monotonic(), time.process_time()
        used = (cpu_s - self._cpu_s) / max(wall_s - self._wall_s, 1e-9)
        self._wall_s, self._cpu_s = wall_s, cpu_s
        return used


def _resident_bytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def register_process_metrics() -> None:
    """Add `process_cpu_usage` (cores) and `process_memory_usage` (bytes resident); call once, from a main."""
    names = REGISTRY._names_to_collectors
    if "process_cpu_usage" in names:
        return
    Gauge("process_cpu_usage", "Cores used since the last scrape.").set_function(_CpuUsage())
    Gauge("process_memory_usage", "Resident bytes.").set_function(_resident_bytes)
