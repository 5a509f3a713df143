"""OpenTelemetry's SDK as we use it: loaded only where traces are asked for, by telemetry/traces.py."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Status, Tracer
from temporalio.contrib.opentelemetry import TracingInterceptor

SHOWN = frozenset(
    {
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "temporalWorkflowID",
        "temporalRunID",
        "temporalActivityID",
        "temporalActivityType",
        "temporalUpdateID",
        "exception.type",
    }
)
"""What leaves the process of a span's attributes: names and ids. Messages, paths and values stay here."""


def otlp(endpoint: str) -> SpanExporter:
    """Send to a collector, by http/protobuf."""
    return OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")


@contextmanager
def made(target: SpanExporter, *, service: str) -> Iterator[tuple[Tracer, TracingInterceptor]]:
    """Make spans meanwhile, and send what is left at the end."""
    resource = Resource.create({"service.name": service, "service.namespace": "flowtrack"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Discreet(target)))
    tracer = provider.get_tracer("flowtrack")
    try:
        yield tracer, TracingInterceptor(tracer)
    finally:
        provider.shutdown()


class Discreet(SpanExporter):
    """Puts an exporter behind the list of what is shown."""

    def __init__(self, target: SpanExporter) -> None:
        self._target = target

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand the spans on, bare."""
        return self._target.export([bare(span) for span in spans])

    def shutdown(self) -> None:
        """End."""
        self._target.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send now."""
        return self._target.force_flush(timeout_millis)


def bare(span: ReadableSpan) -> ReadableSpan:
    """Copy a span without anything that people wrote: an error's text may hold what no trace should."""
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_shown(span.attributes),
        events=[Event(each.name, _shown(each.attributes), each.timestamp) for each in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _shown(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (attributes or {}).items() if name in SHOWN}
