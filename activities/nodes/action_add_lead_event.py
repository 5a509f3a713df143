"""Adds an event to the lead's timeline."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from activities import imagined
from activities.errors import StepFailed
from activities.step import Step
from activities.world import World
from db import changes, effects, leads
from workflows.messages import Outcome
from workflows.nodes.action_add_lead_event import Config


async def run(step: Step, world: World) -> Outcome:
    """Append the event, once."""
    key, event = step.effect("event"), _event(step)
    output = {"event_id": str(event["event_id"]), "event_type": event["event_type"]}
    if not await changes.tell(world.database, key, step.lead_id, output, event):
        async with world.database.workspace(step.workspace_id) as session:
            output = await effects.once(session, key, lambda: _add(session, step, event, output))
    return Outcome(output=output)


def simulate(step: Step) -> Outcome:
    """Add the event to what is known of the lead."""
    config: Config = step.config
    imagined.lead_of(step)
    output = {"event_id": imagined.id_of(step, "event"), "event_type": config.event_type}
    return Outcome(output=output, lead=imagined.after(step, config.event_type))


def _event(step: Step) -> dict[str, Any]:
    config: Config = step.config
    return leads.event_of(
        step.workspace_id,
        step.lead_id,
        config.event_type,
        description=config.description,
        metadata=config.metadata,
        execution_id=step.given.execution_id,
    )


async def _add(
    session: AsyncSession, step: Step, event: dict[str, Any], output: dict[str, Any]
) -> dict[str, Any]:
    if await leads.get(session, step.workspace_id, step.lead_id) is None:
        raise StepFailed("lead_gone", "The lead no longer exists.")
    await leads.append(session, event)
    return output
