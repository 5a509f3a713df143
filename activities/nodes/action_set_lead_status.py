"""Moves the lead on the board."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from activities import imagined
from activities.errors import StepFailed
from activities.step import Step
from activities.world import World
from db import changes, effects, leads, reactions
from db.changes import Changed
from workflows.messages import Outcome
from workflows.nodes.action_set_lead_status import Config

EVENT = "STATUS_CHANGED"
LONGEST = 100


async def run(step: Step, world: World) -> Outcome:
    """Change the status and write the event that tells of it, in one transaction and once."""
    config: Config = step.config
    key, status, allowed = step.effect("status"), wanted(step.config), config.allowed_from
    moved = await changes.move(
        world.database, key, step.lead_id, status, allowed_from=allowed, event_type=EVENT
    )
    if moved is None:
        async with world.database.workspace(step.workspace_id) as session:
            output = await effects.once(session, key, lambda: _move(session, step))
            moved = Changed(output, await leads.scope(session, step.workspace_id, step.lead_id))
    handle = "default" if moved.output["changed"] else "unchanged"
    return Outcome(output=moved.output, lead=moved.lead, handles=(handle,))


def simulate(step: Step) -> Outcome:
    """Move the lead that travels with the run."""
    config: Config = step.config
    status, before = wanted(config), str(imagined.lead_of(step)["status"])
    if before == status or (config.allowed_from and before not in config.allowed_from):
        return Outcome(output=_unmoved(config, before, status), handles=("unchanged",))
    output = {"changed": True, "from": before, "to": status}
    return Outcome(output=output, lead=imagined.after(step, EVENT, status=status))


def wanted(config: Config) -> str:
    """Read the status, or say that it is none."""
    status = config.status.strip()
    if not 0 < len(status) <= LONGEST:
        raise StepFailed("bad_status", f"status: a text of 1 to {LONGEST} characters is needed.")
    return status


async def _move(session: AsyncSession, step: Step) -> dict[str, Any]:
    config: Config = step.config
    status = wanted(config)
    moved = await leads.set_status(
        session, step.workspace_id, step.lead_id, status, allowed_from=config.allowed_from
    )
    if moved is None:
        raise StepFailed("lead_gone", "The lead no longer exists.")
    if not moved.changed:
        return _unmoved(config, moved.before, status)
    event = await leads.add_event(
        session,
        step.workspace_id,
        step.lead_id,
        EVENT,
        description=f"{moved.before} → {moved.after}",
        metadata={"from": moved.before, "to": moved.after},
        execution_id=step.given.execution_id,
    )
    change = reactions.Change(
        event="status_changed",
        lead_id=step.lead_id,
        event_id=event.id,
        by="execution",
        execution_id=step.given.execution_id,
        before=moved.before,
        after=moved.after,
    )
    # Who reacts is queued here and started by the dispatcher: the API alone starts runs.
    await reactions.react(session, step.workspace_id, change)
    return {"changed": True, "from": moved.before, "to": moved.after}


def _unmoved(config: Config, before: str, wanted: str) -> dict[str, Any]:
    if before == wanted:
        return {"changed": False, "from": before, "to": before, "reason": "already"}
    if config.on_conflict == "fail":
        allowed = ", ".join(config.allowed_from)
        raise StepFailed("status_conflict", f"The lead is {before}; it may come from {allowed} only.")
    return {"changed": False, "from": before, "to": before, "reason": "not_allowed"}
