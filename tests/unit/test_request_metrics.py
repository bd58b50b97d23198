"""The metrics of requests at /metrics are those that prometheus_client itself would report."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from services.gateway.http.responses import format_quoted_timestamp_ms, format_timestamp_ms
from tracking.domain.timestamps import parse_timestamp
from tracking.http.request_metrics import BOUNDS_S, RequestMetrics

# sums of halves are exact in any order
SEEN = [
    ("/a", 202, 0.5**11),
    ("/a", 202, 0.5),
    ("/a", 400, 0.25 + 0.5**20),
    ("/a", 202, 11.0),
    ("/b", 200, 0.5**6),
    ("/b", 503, 10.0),
]


def lines(registry: CollectorRegistry) -> set[str]:
    return {
        line for line in generate_latest(registry).decode().splitlines() if line[0] != "#" and "_created" not in line
    }


def test_requests_are_told_as_the_library_would_tell_them() -> None:
    ours, theirs = RequestMetrics(), CollectorRegistry()
    registry = CollectorRegistry()
    registry.register(ours)
    requests = Counter("http_server_requests_total", "-", ["service", "method", "route", "status"], registry=theirs)
    labels = ["service", "method", "route"]
    seconds = Histogram("http_server_request_duration_seconds", "-", labels, buckets=BOUNDS_S, registry=theirs)
    name = "volcanion_event_ingestion_duration_seconds"
    ingestion = Histogram(name, "-", buckets=BOUNDS_S, registry=theirs)

    for route, status, took_s in SEEN:
        is_ingestion = status in (200, 202)
        ours.get_route_metrics("gateway", "POST", route, status, is_ingestion=is_ingestion).observe(took_s)
        requests.labels("gateway", "POST", route, str(status)).inc()
        seconds.labels("gateway", "POST", route).observe(took_s)
        if is_ingestion:
            ingestion.observe(took_s)

    assert lines(registry) == lines(theirs)


def test_a_process_without_requests_tells_of_none() -> None:
    registry = CollectorRegistry()
    registry.register(RequestMetrics())

    assert {line for line in lines(registry) if not line.endswith(" 0.0")} == set()


def test_a_time_is_quoted_as_it_is_shown() -> None:
    for text in (
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.007Z",
        "2026-12-31T23:59:59.999Z",
        "2026-01-02T00:00:00.1Z",
    ):
        at = parse_timestamp(text)
        assert at is not None
        assert format_quoted_timestamp_ms(at).decode() == f'"{format_timestamp_ms(at)}"'
