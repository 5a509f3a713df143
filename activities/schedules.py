"""What schedules do: queue the runs that are due, and stay in line with the workflows they belong to."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from activities.clients import schedules as arranged
from activities.world import World
from db import doors
from db import schedules as stored
from workflows.messages import ScheduledBatch, ScheduledBatchDone, ScheduledInput

log = structlog.get_logger()

LOOK_AGAIN = timedelta(seconds=15)


class Schedules:
    """The activities of ScheduledRunsWorkflow, and the job that arranges the schedules."""

    def __init__(self, world: World) -> None:
        self._world = world

    def activities(self) -> Sequence[Callable[..., Any]]:
        """Return what a worker carries out."""
        return [self.queue_scheduled_runs, self.await_scheduled_runs, self.arrange_schedules]

    @activity.defn(name="queue_scheduled_runs")
    async def queue_scheduled_runs(self, given: ScheduledBatch) -> ScheduledBatchDone:
        """Queue the next runs of a time; the dispatcher starts them as it starts all others."""
        async with self._world.database.workspace(given.workspace_id) as session:
            plan = await stored.plan(session, given.workspace_id, given.workflow_id)
            if plan is None:
                return ScheduledBatchDone(queued=0)
            asked = plan.config.lead_query
            if asked is not None:
                batch = await stored.batch(session, plan, asked, due=given.due, after=given.after)
                queued = await stored.queue(session, plan, given.due, batch.lead_ids)
                return ScheduledBatchDone(queued=queued, after=batch.after)
            place = (session, given.workspace_id, given.workflow_id)
            if plan.config.overlap == "skip" and await stored.is_busy(*place, due=given.due):
                activity.logger.info("skipped: the last scheduled run is open")
                return ScheduledBatchDone(queued=0)
            return ScheduledBatchDone(queued=await stored.queue(session, plan, given.due, [None]))

    @activity.defn(name="await_scheduled_runs")
    async def await_scheduled_runs(self, given: ScheduledInput) -> None:
        """Return once no scheduled run is open; until then fail, to be tried again."""
        async with self._world.database.workspace(given.workspace_id) as session:
            busy = await stored.is_busy(session, given.workspace_id, given.workflow_id, due=None)
        if busy:
            raise ApplicationError(
                "The last scheduled run is still open.",
                type="scheduled_runs_open",
                next_retry_delay=LOOK_AGAIN,
            )

    async def begin(self) -> None:
        """Arrange them as a worker starts; what an outage prevents, the job of the same name makes up for."""
        try:
            await self.arrange_schedules()
        except (RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout) as error:
            log.warning("schedules postponed", reason=str(error)[:200])

    @activity.defn(name="arrange_schedules")
    async def arrange_schedules(self) -> dict[str, int]:
        """Bring every schedule in line with its workflow, and end those that have none."""
        return await arranged.reconcile(self._world.temporal, self._wanted, task_queue=self._world.task_queue)

    async def _wanted(self) -> list[doors.Scheduled]:
        return await wanted(self._world)


async def wanted(world: World) -> list[doors.Scheduled]:
    """List every schedule there should be, a page of workflows after the other."""
    found: list[doors.Scheduled] = []
    while True:
        async with world.database.door() as session:
            after = found[-1].workflow_id if found else None
            page = await doors.scheduled_workflows(session, after=after)
        if not page:
            return found
        found += page
