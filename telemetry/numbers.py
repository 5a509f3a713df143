"""Numbers for Prometheus, on a listener of their own that neither tenants nor the public reach (ADR 0021)."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain
from urllib.request import ProxyHandler, build_opener

import structlog
import uvicorn
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from starlette.types import Receive, Scope, Send
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

log = structlog.get_logger()

LOOPBACK = "127.0.0.1"
SECONDS = 2
"""What the SDK's own listener, in this very process, has to answer in."""


@dataclass
class Core:
    """The SDK's native half: its lines go through ours, and its numbers are asked from its own listener."""

    address: str | None

    async def numbers(self) -> bytes:
        """Give what it counts, nothing if it counts nothing or does not answer."""
        if self.address is None:
            return b""
        try:
            return await asyncio.to_thread(self._read)
        except OSError:
            return b""

    def _read(self) -> bytes:
        with build_opener(ProxyHandler({})).open(f"http://{self.address}/metrics", timeout=SECONDS) as answer:
            found: bytes = answer.read()
            return found


def core(*, counts: bool) -> Core:
    """Set up the native half for this process, before any client: JSON lines, and numbers if it counts."""
    address = f"{LOOPBACK}:{_free_port()}" if counts else None
    metrics = (
        PrometheusConfig(
            bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
        )
        if address
        else None
    )
    forwarding = LogForwardingConfig(
        logging.getLogger("temporalio.core"),
        prepend_target_on_message=False,
        append_log_fields_to_message=False,
    )
    lines = LoggingConfig(TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding)
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=lines, metrics=metrics)))
    return Core(address)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((LOOPBACK, 0))
        port: int = found.getsockname()[1]
        return port


class Together:
    """Several registries as one: what two of them count under one name stands under it once."""

    def __init__(self, *registries: CollectorRegistry) -> None:
        self._registries = registries

    def collect(self) -> Iterator[Metric]:
        """Give every family once, with the samples of all."""
        found: dict[str, Metric] = {}
        for family in chain.from_iterable(registry.collect() for registry in self._registries):
            if family.name in found:
                found[family.name].samples.extend(family.samples)
            else:
                found[family.name] = family
        yield from found.values()


class Page:
    """An ASGI app with one page, `/metrics`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *others: CollectorRegistry,
        before: Sequence[Callable[[], Awaitable[None]]] = (),
        core: Core | None = None,
    ) -> None:
        """Show registries, the process itself and the SDK; what is in `before` is awaited first."""
        self._shown, self._before, self._core = Together(registry, *others), before, core
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        status = HTTPStatus.OK if scope["path"] == "/metrics" else HTTPStatus.NOT_FOUND
        body = await self.text() if status is HTTPStatus.OK else b"Metrics are at /metrics.\n"
        kind = CONTENT_TYPE_LATEST if status is HTTPStatus.OK else "text/plain"
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def text(self) -> bytes:
        """Write the page."""
        for refresh in self._before:
            await refresh()
        own = generate_latest(self._shown)
        return own + (await self._core.numbers() if self._core else b"")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever serves the real work."""
        yield


@asynccontextmanager
async def listening(page: Page, *, host: str, port: int | None) -> AsyncIterator[str | None]:
    """Serve the page meanwhile and give its address; no port, no listener.

    A port that is taken costs the numbers, never the work: it is said, and the process goes on without.
    """
    listener = _bound(host, port) if port is not None else None
    if listener is None:
        yield None
        return
    config = uvicorn.Config(
        page, http="h11", ws="none", lifespan="off", access_log=False, log_config=None, server_header=False
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]), name="metrics")
    address = "{}:{}".format(*listener.getsockname()[:2])
    log.info("metrics", address=address)
    try:
        yield address
    finally:
        server.should_exit = True
        await task
        listener.close()


def _bound(host: str, port: int) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        log.error(
            "no metrics: FLOWTRACK_METRICS_PORT cannot be used", host=host, port=port, reason=str(error)
        )
        return None
    return listener
