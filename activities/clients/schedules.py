"""The Temporal Schedules: of the upkeep jobs, made at start, and of workflows that run by the clock."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleListDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.common import Priority
from temporalio.service import RPCError, RPCStatusCode

from activities.clients import payloads
from activities.clients.temporal import PLAIN
from db import schedules as stored
from db.doors import Scheduled
from workflows import telling
from workflows.messages import ScheduledInput
from workflows.nodes.trigger_schedule import Config
from workflows.upkeep import JOBS

QUEUE = "flowtrack_task_queue"
"""The memo that says whose a schedule is."""
PATIENCE = timedelta(seconds=5)
OVERLAPS: Mapping[str, ScheduleOverlapPolicy] = {
    "skip": ScheduleOverlapPolicy.SKIP,
    "buffer_one": ScheduleOverlapPolicy.BUFFER_ONE,
    "allow_all": ScheduleOverlapPolicy.ALLOW_ALL,
}


async def ensure(client: Client, *, task_queue: str) -> None:
    """Make every upkeep schedule, or bring an older one up to date; idempotent and safe in parallel."""
    for job, every in JOBS.items():
        schedule = upkeep(job, every, task_queue=task_queue)
        try:
            # At once too: a new installation must not wait a day for its first partitions.
            await client.create_schedule(f"upkeep-{job}", schedule, trigger_immediately=True)
        except ScheduleAlreadyRunningError:
            await client.get_schedule_handle(f"upkeep-{job}").update(_replacing(schedule))


def upkeep(job: str, every: timedelta, *, task_queue: str) -> Schedule:
    """Describe one job's schedule."""
    return Schedule(
        action=ScheduleActionStartWorkflow(
            "UpkeepWorkflow",
            job,
            id=f"upkeep-{job}",
            task_queue=task_queue,
            static_summary=job.replace("_", " "),
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(days=1)),
    )


def _replacing(schedule: Schedule) -> Callable[[ScheduleUpdateInput], ScheduleUpdate]:
    def replace(present: ScheduleUpdateInput) -> ScheduleUpdate:
        # An operator may have paused the job; that stays.
        schedule.state = present.description.schedule.state
        return ScheduleUpdate(schedule=schedule)

    return replace


# Schedules of workflows with a TRIGGER_SCHEDULE


async def reconcile(
    client: Client, wanted: Callable[[], Awaitable[Sequence[Scheduled]]], *, task_queue: str
) -> dict[str, int]:
    """Make, change and end schedules until they are those that are wanted; say how many of each."""
    # What there is comes first: a schedule made meanwhile is then wanted, too, and never ended by mistake.
    present = {
        entry.id: entry async for entry in await client.list_schedules() if await _is_ours(entry, task_queue)
    }
    asked = {name_of(one.workflow_id): one for one in await wanted()}
    gone = sorted(present.keys() - asked.keys())
    stale = [one for name, one in sorted(asked.items()) if not _agrees(present.get(name), one)]
    for name in gone:
        await _delete(client, name)
    for one in stale:
        await _put(client, one, task_queue=task_queue)
    return {"put": len(stale), "deleted": len(gone)}


async def arrange(client: Client, workflow_id: UUID, wanted: Scheduled | None, *, task_queue: str) -> None:
    """Bring one workflow's schedule in line."""
    if wanted is None:
        await _delete(client, name_of(workflow_id))
        return
    await _put(client, wanted, task_queue=task_queue)


def name_of(workflow_id: UUID) -> str:
    """Name a workflow's schedule."""
    return f"workflow-{workflow_id}"


def run_name(workflow_id: UUID) -> str:
    """Name the small workflow that a schedule starts; Temporal adds the time."""
    return f"scheduled-{workflow_id}"


def of_workflow(wanted: Scheduled, *, task_queue: str) -> Schedule:
    """Describe a workflow's schedule; the small workflow that it starts queues the runs."""
    config = stored.read(wanted.config)
    given = ScheduledInput(
        workspace_id=wanted.workspace_id, workflow_id=wanted.workflow_id, overlap=config.overlap
    )
    return Schedule(
        action=ScheduleActionStartWorkflow(
            "ScheduledRunsWorkflow",
            given,
            id=run_name(wanted.workflow_id),
            task_queue=task_queue,
            static_summary="queue the runs that are due",
            static_details=telling.schedule_details(given),
            priority=Priority(fairness_key=str(wanted.workspace_id)),
        ),
        spec=_spec(config, config.timezone or wanted.zone),
        policy=SchedulePolicy(
            overlap=OVERLAPS[config.overlap], catchup_window=timedelta(seconds=config.catchup_seconds)
        ),
        state=ScheduleState(note=_note(wanted), paused=wanted.status == "paused"),
    )


def _spec(config: Config, zone: str) -> ScheduleSpec:
    every = config.interval_seconds
    return ScheduleSpec(
        cron_expressions=[config.cron] if config.cron else [],
        intervals=[ScheduleIntervalSpec(every=timedelta(seconds=every))] if every else [],
        jitter=timedelta(seconds=config.jitter_seconds) if config.jitter_seconds else None,
        time_zone_name=zone,
    )


def _note(wanted: Scheduled) -> str:
    """Write what a schedule was made from, so that a listing tells whether it still holds."""
    told = json.dumps([str(wanted.workspace_id), wanted.zone, wanted.config], sort_keys=True)
    return f"made from {sha256(told.encode()).hexdigest()[:32]}"


def _agrees(entry: ScheduleListDescription | None, wanted: Scheduled) -> bool:
    if entry is None or entry.schedule is None:
        return False
    state = entry.schedule.state
    return state.note == _note(wanted) and state.paused == (wanted.status == "paused")


async def _is_ours(entry: ScheduleListDescription, task_queue: str) -> bool:
    """Tell our schedules from those of another installation in the same namespace."""
    return entry.id.startswith("workflow-") and await entry.memo_value(QUEUE, None) == task_queue


async def _put(client: Client, wanted: Scheduled, *, task_queue: str) -> None:
    name, schedule = name_of(wanted.workflow_id), of_workflow(wanted, task_queue=task_queue)
    payloads.tell(client, run_name(wanted.workflow_id), wanted.workspace_id)
    # In the clear: whoever lists the schedules of a namespace reads the memos of other installations, too.
    (queue,) = PLAIN.payload_converter.to_payloads([task_queue])
    try:
        await client.create_schedule(name, schedule, memo={QUEUE: queue}, rpc_timeout=PATIENCE)
    except ScheduleAlreadyRunningError:
        update = ScheduleUpdate(schedule=schedule)
        await client.get_schedule_handle(name).update(lambda _: update, rpc_timeout=PATIENCE)


async def _delete(client: Client, name: str) -> None:
    try:
        await client.get_schedule_handle(name).delete(rpc_timeout=PATIENCE)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
