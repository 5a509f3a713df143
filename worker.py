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
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.begin import Begin
from activities.clients import addresses, http, schedules, smtp, temporal
from activities.clients.addresses import Destination
from activities.deliveries import Deliveries
from activities.interceptors import MirrorInterceptor
from activities.schedules import Schedules
from activities.simulation import SimulatedSteps, SimulationInterceptor
from activities.steps import Steps
from activities.upkeep import Upkeep
from activities.world import World
from db.session import Database
from settings import Settings, load
from workflows import nodes
from workflows.delivery import DeliveryWorkflow
from workflows.execution import ExecutionWorkflow
from workflows.schedule import ScheduledRunsWorkflow
from workflows.upkeep import UpkeepWorkflow

log = structlog.get_logger()

TASK_QUEUE = "flowtrack"
WORKFLOWS = (ExecutionWorkflow, DeliveryWorkflow, ScheduledRunsWorkflow, UpkeepWorkflow)
QUEUES = ("mail", "http", "webhooks")
"""One queue for each class of vendor, so that each has its own limits (design §5)."""

PURE = tuple(f"workflows.{name}" for name in ("control", "failures", "graph", "messages", "nodetype", "run"))
"""What the workflow files import. It comes, with all that it imports itself, once from outside instead of
again for every run (1 ms against 25 ms); that it is pure the strict runner shows, which passes nothing."""


def sandbox(*, strict: bool = False) -> SandboxedWorkflowRunner:
    """Return the sandbox policy; a strict one imports even our pure modules again and watches them."""
    # Loaded here, outside: a node type that the first run had to load would be imported inside the sandbox.
    nodes.types()
    policy = workflow.SandboxImportNotificationPolicy
    # The policy that raises means every import that is not on the list, those to be watched too.
    raising = policy.SILENT if strict else policy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*(() if strict else PURE))
    return SandboxedWorkflowRunner(restrictions=restrictions.with_import_notification_policy(raising))


@asynccontextmanager
async def running(
    client: Client, world: World, *, concurrency: int = 50, grace: timedelta = timedelta(seconds=30)
) -> AsyncIterator[None]:
    """Run a worker for the workflow queue and one for each class of vendor."""
    async with AsyncExitStack() as stack:
        for queue, activities in by_queue(world).items():
            worker = Worker(
                client,
                task_queue="-".join(filter(None, (world.task_queue, queue))),
                workflows=() if queue else WORKFLOWS,
                activities=activities,
                workflow_runner=sandbox(),
                max_concurrent_activities=concurrency,
                # The default is none: whatever ran would be cut off and wait for its time-out.
                graceful_shutdown_timeout=grace,
            )
            await stack.enter_async_context(worker)
        yield


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


async def simulation_client(settings: Settings) -> Client:
    """Connect to the namespace of simulations, which no interceptor and no mirror watches."""
    return await temporal.connect(
        settings.temporal_address,
        settings.simulation_namespace,
        tls=settings.temporal_tls,
        api_key=settings.temporal_token,
    )


def by_queue(world: World) -> dict[str, list[Callable[..., Any]]]:
    """Return the activities of each task queue, by its suffix; queues without any are left out."""
    steps, begin, upkeep, deliveries = Steps(world), Begin(world), Upkeep(world), Deliveries(world)
    found = {queue: list(steps.activities(queue or None)) for queue in ("", *QUEUES)}
    found[""] += [begin.begin, upkeep.roll_quotas, upkeep.keep_log_partitions, upkeep.tidy]
    found[""] += Schedules(world).activities()
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
async def connected(settings: Settings) -> AsyncIterator[tuple[Client, World]]:
    """Open everything that the settings point to, and close it again."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    mirror = MirrorInterceptor(database)
    client = await temporal.connect(
        settings.temporal_address,
        settings.temporal_namespace,
        tls=settings.temporal_tls,
        api_key=settings.temporal_token,
        interceptors=[mirror],
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
    )
    try:
        async with mirror.sending():
            yield client, world
    finally:
        await caller.aclose()
        await mailer.aclose()
        await database.close()


async def serve(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then finish what runs."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connected(settings) as (client, world):
        await schedules.ensure(client, task_queue=TASK_QUEUE)
        async with (
            running(client, world, concurrency=settings.worker_concurrency),
            simulating(await simulation_client(settings)),
        ):
            await Schedules(world).begin()
            log.info("worker ready", task_queue=TASK_QUEUE)
            await stop.wait()


def main(settings: Settings) -> None:
    """Run a worker process."""
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main(load())
