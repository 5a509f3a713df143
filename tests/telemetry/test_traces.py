"""Traces cost nothing where nobody asks for them, and reach a collector where somebody does."""

import subprocess
import sys

import pytest
import structlog
from pytest_httpserver import HTTPServer

import telemetry
from telemetry.traces import tracing


def test_without_an_endpoint_nothing_of_the_sdk_is_loaded():
    program = (
        "import sys\nfrom telemetry.traces import tracing\n"
        "with tracing(None, service='x') as traced: assert traced is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_spans_reach_a_collector_before_the_process_ends(httpserver: HTTPServer):
    httpserver.expect_request("/v1/traces", method="POST").respond_with_data(b"")
    with tracing(httpserver.url_for("").rstrip("/"), service="flowtrack-api") as traced:
        assert traced is not None
        with traced.tracer.start_as_current_span("POST", attributes={"url.path": "/a/secret"}):
            pass
    ((request, _),) = httpserver.log
    body = request.get_data()
    assert b"flowtrack-api" in body
    assert b"secret" not in body


def test_without_the_extra_the_process_goes_on_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "telemetry.spans", None)
    monkeypatch.delattr(telemetry, "spans", raising=False)
    with (
        structlog.testing.capture_logs() as lines,
        tracing("http://127.0.0.1:1", service="x") as traced,
    ):
        assert traced is None
    assert "flowtrack[otel]" in lines[0]["event"]
