"""Building the application from what it is handed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import APIRouter, FastAPI
from opentelemetry.trace import Tracer

from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring
from api import failures, health, openapi
from api.auth import ApiKeys
from api.bodies import Bodies
from api.cors import PublicForms, TemporalUI
from api.deps import Closed, Config, Planner, Platform, Simulator, Starter, Throttle, nobody_told
from api.live.describer import Describer, Nobody
from api.live.hub import Hub
from api.metrics import Metrics
from api.pages import reference
from api.requests import Requests
from api.routes import (
    api_keys,
    attempts,
    bulk,
    closes,
    codec,
    control,
    events,
    executions,
    form_fields,
    graphs,
    hooks,
    intake,
    leads,
    limits,
    links,
    logs,
    node_types,
    overlays,
    pipeline,
    quotas,
    reruns,
    simulations,
    steps,
    versions,
    webhook_endpoints,
    why,
    workflows,
    workspaces,
)
from api.traffic import Traffic
from db.session import Database

__all__ = ["Config", "create_app"]

LifespanTask = Callable[[], Coroutine[Any, Any, Any]]
ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    reference.router,
    intake.router,
    intake.posts,
    hooks.router,
    links.router,
    node_types.router,
    workflows.router,
    versions.router,
    graphs.router,
    simulations.router,
    form_fields.router,
    # Before `/v1/executions/{execution_id}`, which would take `events` for an id.
    events.router,
    executions.router,
    control.router,
    reruns.router,
    bulk.router,
    steps.router,
    attempts.router,
    why.router,
    overlays.router,
    logs.router,
    leads.router,
    pipeline.router,
    webhook_endpoints.router,
    quotas.router,
    workspaces.router,
    api_keys.router,
    closes.router,
    codec.router,
    limits.router,
)
DRAIN = 5.0
"""Seconds that starts under way are waited for at the end; what is cut off stays queued."""


def create_app(
    database: Database,
    starter: Starter,
    *,
    config: Config,
    planner: Planner | None = None,
    traffic: Traffic | None = None,
    simulator: Simulator | None = None,
    metrics: Metrics | None = None,
    tracer: Tracer | None = None,
    describer: Describer | None = None,
    viewing: Database | None = None,
    closed: Closed = nobody_told,
    hub: Hub | None = None,
    keyring: Keyring | None = None,
    blobs: Blobs | None = None,
    throttle: Throttle | None = None,
    lifespan_tasks: Sequence[LifespanTask] = (),
) -> FastAPI:
    """Build the API; `lifespan_tasks` (dispatcher, mirror) run beside it and end with it.

    `viewing` is the pool that streams and overlays read by. `closed` is called when Temporal says that a run
    has closed.
    """
    platform = Platform(
        database,
        starter,
        config,
        planner,
        simulator,
        metrics=metrics or Metrics(),
        describer=describer or Nobody(),
        viewing=viewing or database,
        hub=hub or Hub(),
        keyring=keyring or Keyring(database, config.master_key),
        blobs=blobs or Blobs(database),
        throttle=throttle,
        traffic=traffic or Traffic(),
        closed=closed,
    )
    app = FastAPI(
        title="FlowTrack",
        version=config.version,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=openapi.operation_id,
        lifespan=_lifespan(platform, lifespan_tasks),
        redirect_slashes=False,
        # It looks for exporters at each request and would send exceptions with their texts, and paths, which
        # may be secrets; ours tell less (api/metrics.py, api/requests.py).
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.platform = platform
    app.state.authenticators = (ApiKeys(database),)
    app.state.routers = ROUTERS
    for router in ROUTERS:
        app.include_router(router)
    failures.install(app, docs_url=config.docs_url)
    openapi.install(app)
    # The last one added is the outermost.
    app.add_middleware(Bodies, docs_url=config.docs_url)
    app.add_middleware(PublicForms)
    app.add_middleware(TemporalUI, origin=config.temporal_ui_origin)
    app.add_middleware(Requests, metrics=platform.metrics, docs_url=config.docs_url, tracer=tracer)
    return app


def _lifespan(platform: Platform, tasks: Sequence[LifespanTask]) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        running = [asyncio.create_task(task()) for task in tasks]
        try:
            yield
        finally:
            await platform.background.drain(DRAIN)
            for task in running:
                task.cancel()
            for task in running:
                with suppress(asyncio.CancelledError):
                    await task

    return lifespan
