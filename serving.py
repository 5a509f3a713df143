"""Builds the API with its dispatcher and mirror, and serves them; what `flowtrack api` runs."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata

import structlog
from fastapi import FastAPI
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import RPCError

import worker
from activities.clients import payloads, temporal
from activities.clients.blobs import Blobs
from activities.clients.callbacks import Callbacks
from activities.clients.keyring import Keyring
from activities.clients.limits import Throttle
from activities.metrics import Metrics as WorkerMetrics
from api import app, server
from api.dispatcher import Dispatcher
from api.live.describer import Temporals
from api.live.hub import Hub
from api.metrics import Metrics, Rows
from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from api.planner import Planner
from api.simulation.simulator import Simulator
from api.starter import Starter
from api.stuck import Detector
from api.traffic import Traffic
from db.mirrors import Hint
from db.session import Database
from settings import Settings
from telemetry import numbers
from telemetry.numbers import Core
from telemetry.traces import Traces

log = structlog.get_logger()

VIEWING_POOL = 3
AWAY = 5.0
"""Seconds until the next try where Temporal does not answer."""


@dataclass
class Pools:
    """The ways into PostgreSQL, apart so that none keeps another waiting."""

    requests: Database
    beside: Database
    """For what happens beside the requests: a form shall not wait for it."""
    viewing: Database
    """Viewers wait for each other."""


@asynccontextmanager
async def opened(settings: Settings, metrics: Metrics) -> AsyncIterator[Pools]:
    """Open the pools, show how full they are, and close them at the end."""
    sizes = {"requests": settings.database_pool_size, "beside": settings.database_pool_size}
    sizes["viewing"] = VIEWING_POOL
    found = {name: Database(settings.database_url, pool_size=size) for name, size in sizes.items()}
    for name, database in found.items():
        metrics.watch(name, database.engine, size=sizes[name])
    try:
        yield Pools(**found)
    finally:
        for database in reversed(found.values()):
            await database.close()


async def connected(
    settings: Settings,
    namespace: str,
    converter: DataConverter,
    *,
    traced: Traces | None = None,
) -> Client:
    """Connect to a namespace when it is first needed: without Temporal the API still takes forms."""
    return await temporal.connect(
        settings.temporal_address,
        namespace,
        tls=settings.temporal_tls,
        api_key=settings.temporal_token,
        interceptors=[traced.interceptor] if traced else [],
        lazy=True,
        data_converter=converter,
    )


def configured(settings: Settings, name: str) -> app.Config:
    """Say what the API has to know of the settings."""
    return app.Config(
        public_url=settings.public_url,
        environment=settings.env,
        master_key=settings.master_key_bytes,
        operator_token=settings.operator_secret,
        temporal_namespace=settings.temporal_namespace,
        temporal_ui_url=settings.temporal_ui_url,
        allow_private_destinations=settings.may_reach_private_addresses,
        version=metadata.version("flowtrack"),
        name=name,
    )


class Host:
    """Carries runs out where they start, as long as there is room: nobody has to hand them to a worker."""

    def __init__(self, settings: Settings, tell: Callable[[Hint], None], traced: Traces | None) -> None:
        """Prepare; the mirror beside it is told which runs moved on."""
        self._settings, self._traced, self._tell = settings, traced, tell
        self.metrics = WorkerMetrics()
        self._client: Client | None = None

    def client(self) -> Client | None:
        """Give the client whose runs it takes; None while it takes none."""
        return self._client

    async def run(self) -> None:
        """Host until cancelled; while Temporal is away nobody starts anything."""
        while self._settings.api_runs:
            try:
                await self._host()
            except (RuntimeError, RPCError) as error:
                log.warning("runs go to the workers alone", reason=str(error)[:200])
            await asyncio.sleep(AWAY)

    async def _host(self) -> None:
        given = self._settings
        async with (
            worker.connected(given, traced=self._traced, metrics=self.metrics, tell=self._tell) as (
                client,
                world,
            ),
            worker.hosting(client, world, runs=given.api_runs, build_id=given.build_id),
        ):
            self._client = client
            try:
                await asyncio.Event().wait()
            finally:
                self._client = None


async def serve(settings: Settings, core: Core, traced: Traces | None) -> None:
    """Serve until SIGTERM or SIGINT."""
    metrics = Metrics()
    async with opened(settings, metrics) as pools:
        keyring, large = (
            Keyring(pools.beside, settings.master_key_bytes),
            Blobs(pools.beside, metrics.registry),
        )
        converter = payloads.converter(keyring, large)
        client = await connected(settings, settings.temporal_namespace, converter, traced=traced)
        imagined = await connected(settings, settings.simulation_namespace, payloads.inside(converter))
        hub, host, application = assembled(
            settings, pools, client, imagined, keyring=keyring, large=large, metrics=metrics, traced=traced
        )
        rows = Rows(pools.beside, metrics.registry)
        counted = (metrics.registry, host.metrics.registry)
        page = numbers.Page(*counted, before=[rows.refresh], core=core)
        async with numbers.listening(page, host=settings.metrics_host, port=settings.metrics_port):
            await server.serve(application, host=settings.api_host, port=settings.api_port, on_exit=hub.close)


def assembled(
    settings: Settings,
    pools: Pools,
    client: Client,
    imagined: Client,
    *,
    keyring: Keyring,
    large: Blobs,
    metrics: Metrics,
    traced: Traces | None,
) -> tuple[Hub, Host, FastAPI]:
    """Put the application and all that runs beside it together."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    config, beside, traffic = configured(settings, name), pools.beside, Traffic()
    queue = config.task_queue
    pace, url = Pace(sweep=settings.mirror_sweep_seconds), settings.closes_url
    mirror = Mirror(
        client,
        beside,
        database_url=settings.database_url,
        pace=pace,
        traffic=traffic,
        metrics=metrics,
        callbacks=Callbacks(client, url, settings.master_key_bytes) if url else None,
    )
    host = Host(settings, mirror.told, traced)
    starter = Starter(
        beside,
        client,
        task_queue=queue,
        public_url=config.public_url,
        hint=mirror.hint,
        expect=mirror.expect,
        traffic=traffic,
        metrics=metrics,
        host=host.client,
    )
    interval = settings.dispatcher_poll_seconds
    dispatcher = Dispatcher(beside, starter, name=name, interval=interval, metrics=metrics)
    detector = Detector(client, beside, metrics=metrics, hint=mirror.hint)
    hub = Hub(settings.database_url, database=pools.viewing, hint=mirror.hint)
    application = app.create_app(
        pools.requests,
        starter,
        config=config,
        planner=Planner(beside, client, task_queue=queue),
        traffic=traffic,
        simulator=Simulator(imagined, task_queue=queue),
        metrics=metrics,
        tracer=traced.tracer if traced else None,
        describer=Temporals(client),
        viewing=pools.viewing,
        closed=mirror.closed,
        hub=hub,
        keyring=keyring,
        blobs=large,
        throttle=Throttle(client, task_queue=queue),
        lifespan_tasks=[dispatcher.run, mirror.run, detector.run, hub.run, host.run],
    )
    return hub, host, application
