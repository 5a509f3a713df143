"""Admitting an execution: its quota is taken once, its surroundings are read."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.world import World
from db import effects, leads, quotas, starts, usage
from db.effects import EffectKey
from workflows.failures import WITHDRAWN
from workflows.messages import BeginInput, Begun

QUOTA = "executions"


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
            taken = await effects.once(session, key_of(asked), lambda: take(session, asked))
            lead = await leads.scope(session, asked.workspace_id, asked.lead_id) if asked.lead_id else None
        if not taken["granted"]:
            raise refused("quota_exceeded", taken["message"])
        return Begun(workspace=facts.workspace, workflow=facts.workflow, lead=lead)


def key_of(asked: BeginInput) -> EffectKey:
    """Name the effect; the engine's own stand under no node."""
    return EffectKey(
        workspace_id=asked.workspace_id, execution_id=asked.execution_id, node_id="", visit=0, effect="quota"
    )


async def take(session: AsyncSession, asked: BeginInput) -> dict[str, Any]:
    """Take one execution from the quota, or record that there was none left."""
    answer = await quotas.consume(session, asked.workspace_id, QUOTA, 1)
    if isinstance(answer, quotas.Granted):
        await usage.record(
            session,
            asked.workspace_id,
            "execution",
            category="compute",
            related_type="workflow_execution",
            related_id=asked.execution_id,
            is_billable=True,
        )
        return {"granted": True}
    message = f"The workspace has used {answer.used} of {answer.limit} executions in this period."
    return {"granted": False, "message": message}


def refused(type_: str, message: str) -> ApplicationError:
    """Build a refusal that no retry changes."""
    return ApplicationError(message, type=type_, non_retryable=True)
