"""Starts a run of another workflow once, and looks whether it has ended as long as its end is waited for."""

import asyncio
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.service import RPCError

from activities.clients import runs
from activities.clients.runs import Ending
from activities.errors import StepFailed, StepPostponed
from activities.step import Step
from activities.world import World
from db import children, effects
from workflows.graph import step_key
from workflows.messages import Outcome
from workflows.nodes.action_start_workflow import Config, event_type

PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Seconds between looks at a run that said it ends: its last word comes a moment before its end."""
ATTEMPTS = 30
"""How often that is tried, where its worker died between the two; then somebody must have set it back."""


async def run(step: Step, world: World) -> Outcome:
    """Order the run under the effect's key, start it, and say whether there is more to wait for."""
    config: Config = step.config
    execution_id = await _order(step, world)
    if not config.wait:
        await _start(step, world, execution_id)
        return Outcome(output={**_shown(config, execution_id), "status": "queued"})
    ended = await _ending(step, world, execution_id)
    for number in range(step.given.retries):
        if ended is None or ended.status == "completed":
            break
        # Somebody had the step tried again since that one failed.
        execution_id = await _order(step, world, f"execution {number + 2}")
        ended = await _ending(step, world, execution_id)
    shown = _shown(config, execution_id)
    if ended is None:
        return Outcome(output={**shown, "status": "queued"}, waits_for=(event_type(execution_id),))
    async with world.database.workspace(step.workspace_id) as session:
        await children.collect(session, step.workspace_id, execution_id)
    return _outcome(config, shown, ended)


def _shown(config: Config, execution_id: UUID) -> dict[str, Any]:
    return {"execution_id": str(execution_id), "workflow_id": str(config.workflow_id)}


async def _order(step: Step, world: World, name: str = "execution") -> UUID:
    """Write the run's row, or find the one that an earlier attempt, or the run before a reset, wrote."""
    async with world.database.workspace(step.workspace_id) as session:
        made = await effects.once(session, step.effect(name), lambda: _queue(step, session))
    return UUID(made["execution_id"])


async def _queue(step: Step, session: Any) -> dict[str, Any]:
    config, given = step.config, step.given
    try:
        execution_id = await children.order(
            session,
            step.workspace_id,
            workflow_id=config.workflow_id,
            by=given.execution_id,
            awaiting_step=step_key(given.node.id, given.visit) if config.wait else None,
            trigger_data=config.input,
            lead_id=given.lead_id,
        )
    except children.CannotStart as error:
        raise StepFailed(error.type, error.message) from error
    return {"execution_id": str(execution_id)}


async def _start(step: Step, world: World, execution_id: UUID) -> None:
    try:
        await runs.start(
            world.database,
            world.temporal,
            step.workspace_id,
            execution_id,
            task_queue=world.task_queue,
            public_url=world.public_url,
        )
    except (RPCError, RuntimeError) as error:
        # The row is queued: the dispatcher starts it.
        activity.logger.warning("start postponed", extra={"reason": str(error)[:200]})


async def _ending(step: Step, world: World, execution_id: UUID) -> Ending | None:
    """Ask Temporal, which knows first; of a run that it does not have, its row."""
    said_so = any(event.type == event_type(execution_id) for event in step.given.heard)
    for pause in PAUSES if said_so else (0,):
        await asyncio.sleep(pause)
        try:
            ended = await runs.ending(world.temporal, execution_id)
        except LookupError:
            return await _ending_by_row(step, world, execution_id)
        except (RPCError, RuntimeError) as error:
            raise StepPostponed("temporal_unavailable", "Temporal is out of reach.", seconds=1) from error
        if ended is not None:
            return ended
    if said_so and activity.info().attempt < ATTEMPTS:
        raise StepPostponed("execution_ending", f"The execution {execution_id} is about to end.", seconds=1)
    return None


async def _ending_by_row(step: Step, world: World, execution_id: UUID) -> Ending | None:
    """Start a run that is still queued; what never began, or was forgotten since, ended as its row says."""
    async with world.database.workspace(step.workspace_id) as session:
        child = await children.look(session, step.workspace_id, execution_id)
    if child is None:
        return Ending("failed", "deleted", message="The run has been deleted.")
    if child.is_over:
        message = str((child.error or {}).get("message", ""))
        return Ending(child.status, child.status_reason, child.output, message)
    await _start(step, world, execution_id)
    return None


def _outcome(config: Config, shown: dict[str, Any], ended: Ending) -> Outcome:
    if ended.status == "completed":
        told = {"status": ended.status, "outcome": ended.reason or "completed", "output": ended.output}
        return Outcome(output={**shown, **told})
    if config.on_child_failure == "fail":
        told_why = f" ({ended.reason}): {ended.message}" if ended.message else f" ({ended.reason})."
        raise StepFailed(
            f"child_{ended.status}", f"The execution {shown['execution_id']} {_DID[ended.status]}{told_why}"
        )
    error = {"type": ended.reason, "message": ended.message}
    return Outcome(
        output={**shown, "status": ended.status, "outcome": ended.reason, "output": None, "error": error}
    )


_DID = {"failed": "failed", "cancelled": "was cancelled"}
