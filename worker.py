"""Builds the engine, the clients and the activities, and runs the Temporal worker."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.begin import Begin
from activities.clients import addresses, http, schedules, smtp, temporal
from activities.deliveries import Deliveries
from activities.interceptors import MirrorInterceptor
from activities.steps import Steps
from activities.upkeep import Upkeep
from activities.world import World
from db.session import Database
from settings import Settings, load
from workflows.delivery import DeliveryWorkflow
from workflows.execution import ExecutionWorkflow
from workflows.upkeep import UpkeepWorkflow

log = structlog.get_logger()

TASK_QUEUE = "flowtrack"
WORKFLOWS = (ExecutionWorkflow, DeliveryWorkflow, UpkeepWorkflow)
QUEUES = ("mail", "http", "webhooks")
"""One queue for each class of vendor, so that each has its own limits (design §5)."""

PURE = (
    "workflows.graph",
    "workflows.messages",
    "workflows.run",
    "workflows.scopes",
    "workflows.walk",
)
"""Our own pure modules: imported once instead of again for every run (1 ms against 25 ms)."""
LANGUAGES = (
    "workflows.nodes",
    "workflows.nodetype",
    "workflows.conditions",
    "workflows.templates",
    "workflows.fields",
    "workflows.problems",
    # These do not import inside the sandbox; only the modules above reach for them.
    "liquid",
    "re2",
    "babel",
)


def sandbox(*, strict: bool = False) -> SandboxedWorkflowRunner:
    """Return the sandbox policy; a strict one imports even our pure modules again and watches them."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(
            *LANGUAGES, *(() if strict else PURE)
        ).with_import_notification_policy(
            workflow.SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
        )
    )


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


def by_queue(world: World) -> dict[str, list[Callable[..., Any]]]:
    """Return the activities of each task queue, by its suffix; queues without any are left out."""
    steps, begin, upkeep, deliveries = Steps(world), Begin(world), Upkeep(world), Deliveries(world)
    found = {queue: list(steps.activities(queue or None)) for queue in ("", *QUEUES)}
    found[""] += [begin.begin, upkeep.roll_quotas, upkeep.keep_log_partitions, upkeep.tidy]
    found["webhooks"].append(deliveries.deliver_webhook)
    return {queue: activities for queue, activities in found.items() if activities}


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[tuple[Client, World]]:
    """Open everything that the settings point to, and close it again."""
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    mirror = MirrorInterceptor(database)
    client = await temporal.connect(
        settings.temporal_address,
        settings.temporal_namespace,
        tls=settings.temporal_tls,
        api_key=settings.temporal_api_key and settings.temporal_api_key.get_secret_value(),
        interceptors=[mirror],
    )
    policy = addresses.policy(allow_private=settings.may_reach_private_addresses)
    mailer, caller = smtp.SMTPClient.from_url(settings.smtp_url), http.Client(policy)
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
        await caller.close()
        await mailer.close()
        await database.close()


async def serve(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then finish what runs."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with connected(settings) as (client, world):
        await schedules.ensure(client, task_queue=TASK_QUEUE)
        async with running(client, world, concurrency=settings.worker_concurrency):
            log.info("worker ready", task_queue=TASK_QUEUE)
            await stop.wait()


def main(settings: Settings) -> None:
    """Run a worker process."""
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main(load())
