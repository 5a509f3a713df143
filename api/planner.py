"""Keeping a workflow's schedule in line with its row; the upkeep job makes up for what an outage prevents."""

from typing import Annotated
from uuid import UUID

import structlog
from fastapi import BackgroundTasks, Depends
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.client import Client
from temporalio.service import RPCError

from activities.clients import schedules as arranged
from api.auth import Authenticated, Caller
from api.deps import OurPlatform, Platform
from db import schedules
from db.session import Database

log = structlog.get_logger()


class Planner:
    """Makes, changes, pauses and ends the Temporal Schedules of workflows."""

    def __init__(self, database: Database, temporal: Client, *, task_queue: str) -> None:
        self._database = database
        self._temporal = temporal
        self._task_queue = task_queue

    async def bring(self, workspace_id: UUID, workflow_id: UUID) -> bool:
        """Bring a workflow's schedule in line; never raises for an outage."""
        try:
            async with self._database.workspace(workspace_id) as session:
                wanted = await schedules.wanted(session, workspace_id, workflow_id)
            await arranged.arrange(self._temporal, workflow_id, wanted, task_queue=self._task_queue)
        except (RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout) as error:
            ids = {"workspace_id": str(workspace_id), "workflow_id": str(workflow_id)}
            log.warning("schedule postponed", **ids, reason=str(error)[:200])
            return False
        return True


class Plans:
    """What a handler tells of a changed workflow."""

    def __init__(self, platform: Platform, caller: Caller, afterwards: BackgroundTasks) -> None:
        self._platform = platform
        self._caller = caller
        self._afterwards = afterwards

    def follow(self, workflow_id: UUID, *triggers: str | None) -> None:
        """Follow a change once the answer is out, so after the commit, if it is about a schedule."""
        if schedules.TRIGGER in triggers:
            self._afterwards.add_task(self._bring, workflow_id)

    async def _bring(self, workflow_id: UUID) -> None:
        if self._platform.planner is not None:
            self._platform.background.spawn(
                self._platform.planner.bring(self._caller.workspace_id, workflow_id)
            )


async def _plans(platform: OurPlatform, caller: Authenticated, afterwards: BackgroundTasks) -> Plans:
    return Plans(platform, caller, afterwards)


OurPlans = Annotated[Plans, Depends(_plans)]
