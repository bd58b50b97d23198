"""Logs as JSON lines, traces by OpenTelemetry, the edge's request metrics.

Tracing costs nothing unless an OTLP endpoint is configured: `request_span` and `span` then do nothing.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from logging.handlers import TimedRotatingFileHandler
from pathlib import Path
from typing import Any

import orjson
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from starlette.types import Scope

from tracking.domain.errors import Rejected
from tracking.infra import correlation

_LEVELS = {
    "WARNING": "Warning",
    "INFO": "Information",
    "ERROR": "Error",
    "DEBUG": "Debug",
    "CRITICAL": "Critical",
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_LOG_FILES_KEPT = 14
_is_on = False


class JsonFormatter(logging.Formatter):
    """`{timestamp, level, message, properties}` on one line; `extra=` goes into properties."""

    def __init__(self, service: str, environment: str) -> None:
        super().__init__()
        self._fixed = {"Application": "VolcanionTracking", "Service": service, "Environment": environment}

    def format(self, record: logging.LogRecord) -> str:
        properties: dict[str, Any] = {**self._fixed, "Logger": record.name}
        correlation_id = correlation.get_current()
        if correlation_id is not None:
            properties["CorrelationId"] = correlation_id
        properties.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": _LEVELS.get(record.levelname, record.levelname),
            "message": record.getMessage(),
            "properties": properties,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS).decode()


def configure_logging(service: str, environment: str, level: str, log_file: str | None) -> None:
    """JSON lines to standard output and, if `log_file` is given, to a file that rolls at midnight UTC (14 are kept)."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if log_file:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        _create_private(log_file)
        file = TimedRotatingFileHandler(
            log_file, when="midnight", utc=True, backupCount=_LOG_FILES_KEPT, encoding="utf-8"
        )
        file.rotator = _rotate
        handlers.append(file)
    formatter = JsonFormatter(service, environment)
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=handlers, force=True)
    # they report what this code logs in its own words
    for noisy in ("aiormq", "aio_pika", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _create_private(log_file: str) -> None:
    """Let only the owner read the file, which may name people's addresses."""
    os.close(os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    Path(log_file).chmod(0o600)


def _rotate(source: str, destination: str) -> None:
    Path(source).replace(destination)
    _create_private(source)


def configure_tracing(service: str, endpoint: str | None, ratio: float, resources: AsyncExitStack) -> None:
    """Export spans to the OTLP/HTTP `endpoint` (its full URL), a `ratio` of the traces that start here.

    The last spans are sent when `resources` closes.
    """
    if endpoint is None:
        return
    # only here, as they bring 80 to 100 modules along that most processes never need
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"tracking-{service}"}),
        sampler=ParentBased(TraceIdRatioBased(ratio)),
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    trace.set_tracer_provider(provider)
    global _is_on
    _is_on = True
    resources.callback(provider.shutdown)


def is_tracing_enabled() -> bool:
    """Whether spans go anywhere."""
    return _is_on


@contextlib.contextmanager
def span(name: str, *, parent: Context | None = None, **attributes: str | int) -> Iterator[None]:
    """A span around a piece of work, where tracing is on."""
    if not is_tracing_enabled():
        yield
        return
    with _started(name, parent, trace.SpanKind.INTERNAL, attributes):
        yield


@contextlib.contextmanager
def request_span(service: str, scope: Scope) -> Iterator[None]:
    """A server span that continues the caller's trace (`traceparent`)."""
    if not is_tracing_enabled():
        yield
        return
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
    correlation_id = correlation.get_current()
    if correlation_id is not None:
        attributes["correlation.id"] = correlation_id
    name = f"{scope['method']} {scope['path']}"
    with _started(name, propagate.extract(carrier), trace.SpanKind.SERVER, attributes):
        yield


@contextlib.contextmanager
def _started(
    name: str, parent: Context | None, kind: trace.SpanKind, attributes: Mapping[str, str | int]
) -> Iterator[None]:
    """An exception is told by its type alone: its text and its causes may quote the input, and so a key."""
    tracer = trace.get_tracer("tracking")
    with tracer.start_as_current_span(
        name,
        context=parent,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as started:
        try:
            yield
        except Exception as error:
            started.set_attribute("error.type", type(error).__name__)
            if not isinstance(error, Rejected):
                started.set_status(trace.StatusCode.ERROR)
            raise


def inject_trace_context() -> dict[str, str]:
    """`traceparent` of the current span for a message; empty without one."""
    carrier: dict[str, str] = {}
    if is_tracing_enabled():
        propagate.inject(carrier)
    return carrier


def extract_trace_context(headers: dict[str, Any] | None) -> Context | None:
    """The trace that a message belongs to."""
    if not headers or not is_tracing_enabled():
        return None
    return propagate.extract({key: str(value) for key, value in headers.items()})
