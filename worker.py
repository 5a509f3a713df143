"""Builds the engine, the clients and the activities, and runs the Temporal worker."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import structlog
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.converter import DataConverter
from temporalio.worker import (
    FixedSizeSlotSupplier,
    Worker,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from activities.begin import Begin
from activities.clients import addresses, http, payloads, schedules, smtp, temporal
from activities.clients.addresses import Destination
from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring
from activities.clients.limits import QUEUES
from activities.containment import left_behind
from activities.deliveries import Deliveries
from activities.interceptors import MirrorInterceptor
from activities.kin import Relations
from activities.metrics import Metrics
from activities.sandbox import sandbox
from activities.schedules import Schedules
from activities.simulation import SimulatedSteps, SimulationInterceptor
from activities.slots import OwnRuns
from activities.steps import Steps
from activities.upkeep import Upkeep
from activities.world import World
from db.mirrors import Hint
from db.session import Database
from settings import Settings
from telemetry import numbers, traces
from telemetry.numbers import Core
from telemetry.traces import Traces
from workflows.delivery import DeliveryWorkflow
from workflows.execution import ExecutionWorkflow
from workflows.schedule import ScheduledRunsWorkflow
from workflows.upkeep import UpkeepWorkflow

log = structlog.get_logger()

TASK_QUEUE = "flowtrack"
WORKFLOWS = (ExecutionWorkflow, DeliveryWorkflow, ScheduledRunsWorkflow, UpkeepWorkflow)
TASKS = 16
"""Workflow tasks under way in one worker. More at once would all end later, and those that take eight seconds
are told to the server twice."""

LOCAL_STEPS = 100
"""Local activities at once in one worker, the SDK's own number."""
HOST_GRACE = timedelta(seconds=5)
"""The API does not stay for long after it was asked to go; what is cut off goes on in a worker."""


def versioned(build_id: str) -> WorkerDeploymentConfig | None:
    """Say which build these workers are; without one they take every run, whatever code began it."""
    if not build_id:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(temporal.DEPLOYMENT, build_id),
        use_worker_versioning=True,
        # Not on the workflow classes: there it would fail every task of an unversioned worker.
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


@asynccontextmanager
async def running(
    client: Client,
    world: World,
    *,
    concurrency: int = 50,
    grace: timedelta = timedelta(seconds=30),
    build_id: str = "",
) -> AsyncIterator[None]:
    """Run a worker for the workflow queue and one for each class of vendor; at the end, finish what runs."""
    async with AsyncExitStack() as stack:
        # Before the first task: what is held was held before this worker came.
        await world.limits.look(client, task_queue=world.task_queue)
        looking = asyncio.create_task(world.limits.keep_looking(client, task_queue=world.task_queue))
        stack.callback(looking.cancel)
        workers: list[Worker] = []
        for queue, activities in by_queue(world).items():
            worker = Worker(
                client,
                task_queue="-".join(filter(None, (world.task_queue, queue))),
                workflows=() if queue else WORKFLOWS,
                activities=activities,
                workflow_runner=sandbox(),
                max_concurrent_activities=concurrency,
                max_concurrent_workflow_tasks=TASKS,
                # More would make a task of every payload, for the SDK's own storage: ours is not (ADR 0023).
                max_workflow_task_external_storage_concurrency=1,
                # The default is none: whatever ran would be cut off and wait for its time-out.
                graceful_shutdown_timeout=grace,
                deployment_config=versioned(build_id),
            )
            workers.append(await stack.enter_async_context(worker))
        try:
            yield
        finally:
            # All at once: one after the other each would have a grace of its own.
            await asyncio.gather(*(worker.shutdown() for worker in workers))


@asynccontextmanager
async def hosting(client: Client, world: World, *, runs: int, build_id: str = "") -> AsyncIterator[None]:
    """Carry out, so many at once, the runs that this very client starts (Temporal's eager start).

    What they put into a vendor's queue is the workers', as are runs for which there is no room.
    """
    tuner = WorkerTuner.create_composite(
        workflow_supplier=OwnRuns(runs),
        activity_supplier=FixedSizeSlotSupplier(1),
        local_activity_supplier=FixedSizeSlotSupplier(LOCAL_STEPS),
        nexus_supplier=FixedSizeSlotSupplier(1),
    )
    await world.limits.look(client, task_queue=world.task_queue)
    looking = asyncio.create_task(world.limits.keep_looking(client, task_queue=world.task_queue))
    try:
        async with Worker(
            client,
            task_queue=world.task_queue,
            workflows=WORKFLOWS,
            activities=by_queue(world)[""],
            no_remote_activities=True,
            workflow_runner=sandbox(),
            tuner=tuner,
            max_workflow_task_external_storage_concurrency=1,
            graceful_shutdown_timeout=HOST_GRACE,
            deployment_config=versioned(build_id),
        ):
            yield
    finally:
        looking.cancel()


@asynccontextmanager
async def simulating(client: Client, *, task_queue: str = TASK_QUEUE) -> AsyncIterator[None]:
    """Run the worker of simulations, where their namespace is: the same workflow, nothing with an effect."""
    if not await temporal.has_namespace(client):
        log.warning("no simulations here: their namespace is missing", namespace=client.namespace)
        yield
        return
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[ExecutionWorkflow],
        activities=SimulatedSteps().activities(),
        workflow_runner=sandbox(),
        interceptors=[SimulationInterceptor()],
        max_concurrent_workflow_task_polls=2,
        max_concurrent_activity_task_polls=1,
        nonsticky_to_sticky_poll_ratio=0.5,
    ):
        yield


async def simulation_client(settings: Settings, converter: DataConverter) -> Client:
    """Connect to the namespace of simulations, which no interceptor and no mirror watches."""
    return await temporal.connect(
        settings.temporal_address,
        settings.simulation_namespace,
        tls=settings.temporal_tls,
        api_key=settings.temporal_token,
        data_converter=converter,
    )


def by_queue(world: World) -> dict[str, list[Callable[..., Any]]]:
    """Return the activities of each task queue, by its suffix; queues without any are left out."""
    steps, begin, upkeep, deliveries = Steps(world), Begin(world), Upkeep(world), Deliveries(world)
    found = {queue: list(steps.activities(queue or None)) for queue in ("", *QUEUES)}
    found[""] += [begin.begin, upkeep.roll_quotas, upkeep.keep_log_partitions, upkeep.tidy]
    found[""] += [*Schedules(world).activities(), Relations(world).cancel_awaited]
    found["webhooks"].append(deliveries.deliver_webhook)
    return {queue: activities for queue, activities in found.items() if activities}


def destinations(settings: Settings) -> Destination:
    """Say where tenants' calls may go; never to ourselves in production, lest a run call itself in a loop."""
    if settings.may_reach_private_addresses:
        return addresses.DEVELOPMENT
    own = urlsplit(settings.public_url).hostname
    return replace(addresses.PRODUCTION, refused_hosts=frozenset({own} if own else ()))


def mail_client(url: str) -> smtp.SMTPClient:
    """Build the client of the installation's mail server: smtp://user:password@host:port?tls=starttls."""
    parts = urlsplit(url)
    implicit = smtp.TLS.IMPLICIT if parts.scheme == "smtps" else smtp.TLS.NONE
    asked = parse_qs(parts.query).get("tls")
    return smtp.SMTPClient(
        parts.hostname or "127.0.0.1",
        parts.port or (465 if implicit is smtp.TLS.IMPLICIT else 25),
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        tls=smtp.TLS(asked[0]) if asked else implicit,
        policy=addresses.MAIL_OPERATOR,
    )


@asynccontextmanager
async def connected(
    settings: Settings,
    *,
    traced: Traces | None = None,
    metrics: Metrics | None = None,
    tell: Callable[[Hint], None] | None = None,
) -> AsyncIterator[tuple[Client, World]]:
    """Open everything that the settings point to, and close it again; `tell` is a mirror in this process."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    metrics = metrics or Metrics()
    metrics.watch(database.engine, size=settings.database_pool_size)
    mirror = MirrorInterceptor(database, metrics, tell=tell)
    client = await temporal.connect(
        settings.temporal_address,
        settings.temporal_namespace,
        tls=settings.temporal_tls,
        api_key=settings.temporal_token,
        interceptors=[mirror, traced.interceptor] if traced else [mirror],
        data_converter=payloads.converter(
            Keyring(database, settings.master_key_bytes), Blobs(database, metrics.registry)
        ),
    )
    mailer, caller = mail_client(settings.smtp_url), http.Client(destinations(settings))
    world = World(
        database=database,
        temporal=client,
        http=caller,
        smtp=mailer,
        mail_from=settings.mail_from,
        public_url=settings.public_url,
        master_key=settings.master_key_bytes,
        task_queue=TASK_QUEUE,
        metrics=metrics,
    )
    try:
        async with mirror.sending():
            yield client, world
    finally:
        await caller.aclose()
        await mailer.aclose()
        await database.close()


async def serve(settings: Settings, core: Core, traced: Traces | None) -> None:
    """Work until SIGTERM or SIGINT, then finish what runs."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connected(settings, traced=traced) as (client, world):
        page = numbers.Page(world.metrics.registry, core=core)
        await schedules.ensure(client, task_queue=TASK_QUEUE)
        build_id, concurrency = settings.build_id, settings.worker_concurrency
        async with (
            running(client, world, concurrency=concurrency, build_id=build_id),
            simulating(await simulation_client(settings, payloads.inside(client.data_converter))),
            numbers.listening(page, host=settings.metrics_host, port=settings.metrics_port),
        ):
            await Schedules(world).begin()
            log.info("worker ready", task_queue=TASK_QUEUE, build_id=build_id or None)
            await stop.wait()
            log.info("worker stops")
    log.info("worker stopped", left_behind=left_behind())


def main(settings: Settings) -> None:
    """Run a worker process; what comes after this ends it by `os._exit` (flowtrack.py)."""
    core = numbers.core(counts=settings.metrics_port is not None)
    with traces.tracing(settings.otlp_endpoint, service="flowtrack-worker") as traced:
        # Not `asyncio.run`: it would wait for a step that ignores its cancellation, for ever.
        asyncio.new_event_loop().run_until_complete(serve(settings, core, traced))
