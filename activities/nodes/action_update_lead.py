"""Writes into the lead what the run learned."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from activities import edits
from activities.step import Step
from activities.world import World
from db import effects, leads
from workflows.messages import Outcome
from workflows.nodes.action_update_lead import Config

EVENT = "LEAD_UPDATED"


async def run(step: Step, world: World) -> Outcome:
    """Change the lead and write the event that tells of it, in one transaction and once."""
    async with world.database.workspace(step.workspace_id) as session:
        output = await effects.once(session, step.effect("update"), lambda: _update(session, step))
        lead = await leads.scope(session, step.workspace_id, step.lead_id)
    return Outcome(output=output, lead=lead)


async def _update(session: AsyncSession, step: Step) -> dict[str, Any]:
    config: Config = step.config
    place = (session, step.workspace_id, step.lead_id)
    changed = await edits.make(*place, config.set, mode=config.mode, setting="set")
    if changed:
        await leads.add_event(
            *place,
            EVENT,
            description=f"Updated {', '.join(changed)}",
            metadata={"fields": changed},
            execution_id=step.given.execution_id,
        )
    return {"changed": changed}
