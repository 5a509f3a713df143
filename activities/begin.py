"""Admitting an execution: its quota is taken once, its surroundings are read."""

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.world import World
from db import leads, quotas, starts
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
        async with self._database.workspace(asked.workspace_id) as session:
            facts = await starts.surroundings(session, asked.workspace_id, asked.execution_id)
            if facts is None:
                raise refused("unknown_execution", "This workspace has no such execution.")
            if facts.is_withdrawn:
                # It was withdrawn while its start was under way.
                raise refused(WITHDRAWN, "The execution was cancelled before it began.")
            lead = await leads.scope(session, asked.workspace_id, asked.lead_id) if asked.lead_id else None
            # Last of all: the quota's row is locked until the commit, and every run of the workspace waits.
            taken = await quotas.admit(session, key_of(asked))
        if not taken["granted"]:
            raise refused("quota_exceeded", taken["message"])
        return Begun(workspace=facts.workspace, workflow=facts.workflow, lead=lead)


def key_of(asked: BeginInput) -> EffectKey:
    """Name the effect; the engine's own stand under no node."""
    return EffectKey(
        workspace_id=asked.workspace_id, execution_id=asked.execution_id, node_id="", visit=0, effect="quota"
    )


def refused(type_: str, message: str) -> ApplicationError:
    """Build a refusal that no retry changes."""
    return ApplicationError(message, type=type_, non_retryable=True)
