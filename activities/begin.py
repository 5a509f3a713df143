"""Admitting an execution, unless that was done where it was started: its quota once, its surroundings."""

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.world import World
from db import quotas, starts
from db.effects import EffectKey
from workflows.failures import WITHDRAWN
from workflows.messages import BeginInput, Begun


class Begin:
    """The engine's own first step."""

    def __init__(self, world: World) -> None:
        self._database = world.database

    @activity.defn(name="begin")
    async def begin(self, asked: BeginInput) -> Begun:
        """Take the `executions` quota under the run's own effect key, so that no retry counts twice.

        Raises ApplicationError `quota_exceeded`, `withdrawn` for what was cancelled before it began, or
        `unknown_execution` for ids that do not belong together.
        """
        key = starts.key_of(asked)
        found = await starts.begin(self._database, key, asked.lead_id)
        if found is None:
            raise refused("unknown_execution", "This workspace has no such execution.")
        if found.is_withdrawn:
            # It was withdrawn while its start was under way.
            raise refused(WITHDRAWN, "The execution was cancelled before it began.")
        if not found.is_admitted:
            await self._admit(key)
        return Begun(workspace=found.workspace, workflow=found.workflow, lead=found.lead)

    async def _admit(self, key: EffectKey) -> None:
        """Look closer at what did not go at once: a repeat, a new period, a quota that is used up."""
        async with self._database.workspace(key.workspace_id) as session:
            taken = await quotas.admit(session, key)
        if not taken["granted"]:
            raise refused("quota_exceeded", taken["message"])


def refused(type_: str, message: str) -> ApplicationError:
    """Build a refusal that no retry changes."""
    return ApplicationError(message, type=type_, non_retryable=True)
