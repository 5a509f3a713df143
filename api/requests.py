"""The outermost layer: ids, headers, metrics and the last net under every request."""

import re
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from uuid import UUID

import structlog
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils.compat import uuid7

from activities.clients import callbacks
from api import errors
from api.metrics import Metrics

log = structlog.get_logger()

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUIET = ("/healthz", "/readyz", callbacks.PATH)
"""Asked by machines, every few seconds or for every run: not worth a line each."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Requests:
    """Gives every request an id, counts it, and turns what nobody caught into a problem without its text."""

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, docs_url: str, tracer: Tracer | None = None
    ) -> None:
        self._app = app
        self._tracer = tracer
        self._metrics = metrics
        self._docs_url = docs_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(send, request_id)
        began = perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id), self._span(scope) as span:
            try:
                await self._app(scope, receive, answer)
            except Exception as error:
                log.exception("request failed", method=scope["method"], error=type(error).__name__)
                await self._apologise(scope, receive, answer)
            finally:
                self._note(scope, answer.status, (answer.streams_since or perf_counter()) - began)
                self._describe(span, scope, answer.status)
                # What the handlers found out of whom and what the request is about.
                structlog.contextvars.unbind_contextvars("workspace_id", "execution_id")

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request and write its line: the route, never the path, which may hold a secret."""
        method, route = scope["method"], route_of(scope)
        self._metrics.answered(method, route, status, seconds)
        tell = log.debug if route in QUIET else log.info
        tell("request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))

    def _span(self, scope: Scope) -> AbstractContextManager[Span]:
        """Begin a trace, if there are any; whoever calls cannot choose to be traced, or whose trace it is."""
        if self._tracer is None:
            return nullcontext(INVALID_SPAN)
        return self._tracer.start_as_current_span(
            scope["method"], context=Context(), kind=SpanKind.SERVER, record_exception=False
        )

    def _describe(self, span: Span, scope: Scope, status: int) -> None:
        if not span.is_recording():
            return
        method, route = scope["method"], route_of(scope)
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )

    async def _apologise(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        if answer.status == 0:
            response = errors.response(
                errors.Broken(), request_id=request_id_of(scope), docs_url=self._docs_url
            )
            await response(scope, receive, answer)


class _Answer:
    """Adds our headers to the answer and remembers its status."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0
        self.streams_since: float | None = None
        """An event stream is answered with its first byte: how long somebody watches is no time to answer."""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if headers.get("content-type", "").startswith("text/event-stream"):
                self.streams_since = perf_counter()
        await self._send(message)


def request_id_of(scope: Scope) -> str:
    """Name the request that is being served."""
    return str(scope["state"]["request_id"])


def route_of(scope: Scope) -> str:
    """Name the route by its template: ids would make a series of every row."""
    return str(getattr(scope.get("route"), "path", "unmatched"))


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(given := str(value, "latin-1")):
            return given
    return str(UUID(bytes=uuid7().bytes))
