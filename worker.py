"""Builds the engine, the clients and the activities, and runs the Temporal worker."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import structlog
from temporalio import workflow
from temporalio.api.enums.v1 import CommandType
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.converter import DataConverter, StorageDriverStoreContext, WorkflowSerializationContext
from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    Worker,
    WorkerDeploymentConfig,
    WorkerTuner,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowRunner,
)
from temporalio.worker._command_aware_visitor import CommandInfo
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.worker.workflow_sandbox._importer import Importer
from temporalio.worker.workflow_sandbox._restrictions import RestrictionContext
from temporalio.worker.workflow_sandbox._runner import _Instance

from activities.begin import Begin
from activities.clients import addresses, http, payloads, schedules, smtp, temporal
from activities.clients.addresses import Destination
from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring
from activities.clients.limits import QUEUES
from activities.clients.payloads import HandedOver
from activities.containment import left_behind
from activities.deliveries import Deliveries
from activities.interceptors import HINT, MirrorInterceptor
from activities.kin import Relations
from activities.metrics import Metrics
from activities.schedules import Schedules
from activities.simulation import SimulatedSteps, SimulationInterceptor
from activities.steps import Steps
from activities.upkeep import Upkeep
from activities.world import World
from db.mirrors import Hint
from db.session import Database
from settings import Settings
from telemetry import numbers, traces
from telemetry.numbers import Core
from telemetry.traces import Traces
from workflows import nodes
from workflows.delivery import DeliveryWorkflow
from workflows.execution import ExecutionWorkflow
from workflows.schedule import ScheduledRunsWorkflow
from workflows.upkeep import UpkeepWorkflow

log = structlog.get_logger()

TASK_QUEUE = "flowtrack"
WORKFLOWS = (ExecutionWorkflow, DeliveryWorkflow, ScheduledRunsWorkflow, UpkeepWorkflow)
ENDINGS = {f"{how}_workflow_execution" for how in ("complete", "fail", "cancel", "continue_as_new")}
"""The commands that end a task whatever is under way."""
NOWHERE = StorageDriverStoreContext(target=None)
TASKS = 16
"""Workflow tasks under way in one worker. More at once would all end later, and those that take eight seconds
are told to the server twice."""

LOCAL_STEPS = 100
"""Local activities at once in one worker, the SDK's own number."""
HOST_GRACE = timedelta(seconds=5)
"""The API does not stay for long after it was asked to go; what is cut off goes on in a worker."""

PURE = tuple(
    f"workflows.{name}"
    for name in (
        "control",
        "failures",
        "graph",
        "kin",
        "messages",
        "nodetype",
        "onward",
        "room",
        "run",
        "scopes",
    )
)
"""What the workflow files import. It comes, with all that it imports itself, from outside; that it is pure is
shown by the strict runner, which passes nothing."""


class Watch(threading.local, RestrictionContext):
    """Whether a workflow runs, in each thread: runs share what was imported, not when they are watched."""


class _Run(_Instance):
    """One run in the sandbox, over modules that were imported there before."""

    def __init__(self, det: WorkflowInstanceDetails, runner: type[WorkflowRunner], shared: Importer) -> None:
        self.instance_details, self.runner_class, self.importer = det, runner, shared
        self._current_thread_id = None
        self.globals_and_locals = {"__file__": "workflow_sandbox.py"}
        self._create_instance()


@dataclass(frozen=True)
class Sandbox(SandboxedWorkflowRunner):
    """The SDK's sandbox, entered for the workflow's own code alone.

    The SDK enters it six times more for each payload, to ask in which context the payload is to be converted.
    Our codec asks whose workflow it is and no more (ADR 0020), which is known outside (ADR 0010).
    The SDK also imports the workflow's file again for every run; here only a strict one does.
    """

    is_strict: bool = False
    importers: dict[str, Importer] = field(default_factory=dict)
    """What each workflow file imported, itself included."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Build the sandboxed workflow of one run."""
        inside = super().create_instance(det) if self.is_strict else self._shared(det)
        return _Sandboxed(inside, det)

    def _shared(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        name = det.defn.cls.__module__
        if name not in self.importers:
            self.importers[name] = Importer(self.restrictions, Watch(), workflow_module_name=name)
        return _Run(det, self.runner_class, self.importers[name])


class _Sandboxed(WorkflowInstance):
    """Hints when a run's history grows: as a workflow task ends, of the last once Temporal has it."""

    def __init__(self, inside: WorkflowInstance, det: WorkflowInstanceDetails) -> None:
        self._inside = inside
        self._tell: Callable[..., None] | None = det.extern_functions.get(HINT)
        self._workflow_id, self._run_id = det.info.workflow_id, det.info.run_id
        where = det.info.namespace, det.info.workflow_id
        self._context, self._handed_over = WorkflowSerializationContext(*where), HandedOver(*where)
        self._local: set[int] = set()
        """Of the commands of this activation the numbers of those whose payloads stay in the process."""
        self._is_replaying = False
        self._under_way = 0
        """Local activities: the task is not over before they are."""
        self._is_told = False
        """That this task has begun."""
        self._is_over = False

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        completion = self._inside.activate(act)
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            if self._is_over:
                self._hint(is_over=True)
            return completion
        commands = completion.successful.commands
        names = [command.WhichOneof("variant") for command in commands]
        self._is_replaying = act.is_replaying
        self._local = {
            command.schedule_local_activity.seq
            for command, name in zip(commands, names, strict=True)
            if name == "schedule_local_activity"
        }
        self._under_way += names.count("schedule_local_activity")
        self._under_way -= sum(
            job.HasField("resolve_activity") and job.resolve_activity.is_local for job in act.jobs
        )
        if act.is_replaying:
            return completion
        # The worker lets go of a run as soon as Temporal has taken its end.
        self._is_over = not ENDINGS.isdisjoint(names)
        ends = not self._under_way
        if not self._is_over and (ends or not self._is_told):
            self._hint(soon=ends)
            self._is_told = not ends
        return completion

    def _hint(self, *, soon: bool = True, is_over: bool = False) -> None:
        if self._tell is not None:
            self._tell(self._workflow_id, self._run_id, soon=soon, is_over=is_over)

    def get_info(self) -> workflow.Info:
        return self._inside.get_info()

    def get_thread_id(self) -> int | None:
        return self._inside.get_thread_id()

    def get_serialization_context(self, command_info: CommandInfo | None) -> WorkflowSerializationContext:
        """Say which payloads no history will keep: those are put nowhere, however large (ADR 0023)."""
        is_local = (
            command_info is not None
            and command_info.command_type == CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK
            and command_info.command_seq in self._local
        )
        return self._handed_over if self._is_replaying or is_local else self._context

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        return NOWHERE


def sandbox(*, strict: bool = False) -> SandboxedWorkflowRunner:
    """Return the sandbox policy; a strict one imports even our pure modules again and watches them."""
    # Loaded here, outside: a node type that the first run had to load would be imported inside the sandbox.
    nodes.types()
    policy = workflow.SandboxImportNotificationPolicy
    # The policy that raises means every import that is not on the list, those to be watched too.
    raising = policy.SILENT if strict else policy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*(() if strict else PURE))
    return Sandbox(restrictions.with_import_notification_policy(raising), is_strict=strict)


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


class OwnRuns(CustomSlotSupplier):
    """Room for runs that start in this process and for what becomes of those; others go to the workers."""

    def __init__(self, most: int) -> None:
        self._left = most

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Let the queue of this process alone be polled, where its own runs go on."""
        if not ctx.is_sticky:
            await asyncio.Event().wait()
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Take a run that starts here, if there is room."""
        if not self._left:
            return None
        self._left -= 1
        return Started()

    def mark_slot_used(self, ctx: object) -> None:
        """Know it already."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Make room again."""
        self._left += isinstance(ctx.permit, Started)


class Started(SlotPermit):
    """The permit of a run that started here."""


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
