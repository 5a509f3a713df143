"""Traces from a request to the steps of its run, for installations that ask for them: `flowtrack[otel]`.

Without an endpoint nothing of OpenTelemetry's SDK is loaded and nothing is measured.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from opentelemetry.trace import Tracer
from temporalio.client import Interceptor

log = structlog.get_logger()


@dataclass(frozen=True)
class Traces:
    """What a process makes spans with."""

    tracer: Tracer
    interceptor: Interceptor
    """For the Temporal client, from which its workers take it."""


@contextmanager
def tracing(endpoint: str | None, *, service: str) -> Iterator[Traces | None]:
    """Send spans to an OTLP endpoint (http/protobuf) meanwhile; None without one, or without the extra.

    How many are kept says OTEL_TRACES_SAMPLER; OTEL_EXPORTER_OTLP_HEADERS and the like count, too.
    """
    if endpoint is None:
        yield None
        return
    try:
        from telemetry import spans  # noqa: PLC0415 # an optional extra, which costs nothing where it is not asked for
    except ImportError:
        log.error("no traces: install flowtrack[otel], or unset FLOWTRACK_OTLP_ENDPOINT")
        yield None
        return
    with spans.made(spans.otlp(endpoint), service=service) as (tracer, interceptor):
        yield Traces(tracer, interceptor)
