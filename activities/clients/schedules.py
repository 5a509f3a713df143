"""The Temporal Schedules of the upkeep jobs, made at start by whoever comes first."""

from collections.abc import Callable
from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from workflows.upkeep import JOBS


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
