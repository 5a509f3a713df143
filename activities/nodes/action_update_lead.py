"""Writes into the lead what the run learned."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from activities import edits, imagined
from activities.errors import StepFailed
from activities.step import Step
from activities.world import World
from db import changes, effects, leads
from db.changes import Changed, Held
from db.models import Lead
from workflows.messages import Outcome
from workflows.nodes.action_update_lead import Config

EVENT = "LEAD_UPDATED"


async def run(step: Step, world: World) -> Outcome:
    """Change the lead and write the event that tells of it, in one transaction and once."""
    changed = await _at_once(step, world)
    if changed is None:
        async with world.database.workspace(step.workspace_id) as session:
            output = await effects.once(session, step.effect("update"), lambda: _update(session, step))
            changed = Changed(output, await leads.scope(session, step.workspace_id, step.lead_id))
    return Outcome(output=changed.output, lead=changed.lead)


async def _at_once(step: Step, world: World) -> Changed | None:
    """Work the change out from the lead as it is and write it if it still is so; None if that is not all."""
    config: Config = step.config
    seen = await changes.look(world.database, step.workspace_id, step.lead_id, edits.answers_in(config.set))
    try:
        plan = edits.planned(config.set, config.mode, seen.held) if seen is not None else None
    except edits.BadValue:
        return None
    # Whether an address is free is for the lock to say.
    if seen is None or plan is None or plan.email is not None:
        return None
    return await changes.write(
        world.database,
        step.effect("update"),
        step.lead_id,
        seen,
        columns=plan.columns,
        answers=plan.answers,
        output={"changed": plan.changed},
        event=_event(step, plan.changed) if plan.changed else None,
    )


def simulate(step: Step) -> Outcome:
    """Change the lead that travels with the run, by the same rules."""
    config: Config = step.config
    lead = imagined.lead_of(step)
    held = Held(imagined.row_of(step) or Lead(), lead["fields"], imagined.questions(step))
    try:
        plan = edits.planned(config.set, config.mode, held)
    except edits.BadValue as error:
        raise StepFailed(error.type, f"set.{error.message}") from error
    if not plan.changed:
        return Outcome(output={"changed": []}, lead=lead)
    own = {**plan.columns, **({"email": plan.email} if plan.email else {})}
    changed = imagined.after(step, EVENT, **own, fields=plan.answers)
    return Outcome(output={"changed": plan.changed}, lead=changed)


async def _update(session: AsyncSession, step: Step) -> dict[str, Any]:
    config: Config = step.config
    place = (session, step.workspace_id, step.lead_id)
    changed = await edits.make(*place, config.set, mode=config.mode, setting="set")
    if changed:
        await leads.append(session, _event(step, changed))
    return {"changed": changed}


def _event(step: Step, changed: list[str]) -> dict[str, Any]:
    return leads.event_of(
        step.workspace_id,
        step.lead_id,
        EVENT,
        description=f"Updated {', '.join(changed)}",
        metadata={"fields": changed},
        execution_id=step.given.execution_id,
    )
