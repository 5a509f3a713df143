"""Creates a lead, or completes the one that is there."""

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from activities import edits, imagined
from activities.errors import StepFailed
from activities.step import Step
from activities.world import World
from db import effects, leads, reactions
from db.leads import Upserted
from workflows import fields
from workflows.messages import Outcome
from workflows.nodes.action_create_lead import Config

CREATED, UPDATED = "LEAD_CREATED", "LEAD_UPDATED"
SOURCE = "workflow"


async def run(step: Step, world: World) -> Outcome:
    """Create the lead with its fields and its event, in one transaction and once."""
    email = address(step.config)
    async with world.database.workspace(step.workspace_id) as session:
        output = await effects.once(session, step.effect("lead"), lambda: _create(session, step, email))
        own = step.given.lead_id
        is_own = own is not None and output["lead_id"] == str(own)
        lead = await leads.scope(session, step.workspace_id, own) if own and is_own else None
    return Outcome(output=output, lead=lead, handles=("created" if output["created"] else "existing",))


def simulate(step: Step) -> Outcome:
    """Say what would be created: anybody but the run's own lead is new."""
    config: Config = step.config
    email, own = address(config), imagined.given(step).lead
    if own is not None and own["email"] == email:
        return Outcome(output=_known(config, str(own["id"])), handles=("existing",))
    output = {"lead_id": imagined.id_of(step, "lead"), "created": True, "changed": list(config.fields)}
    return Outcome(output=output, handles=("created",))


def address(config: Config) -> str:
    """Read the address, or say that it is none."""
    try:
        return fields.normal_email(config.email)
    except ValueError as error:
        raise StepFailed("invalid_value", "email: this is no complete e-mail address.") from error


async def _create(session: AsyncSession, step: Step, email: str) -> dict[str, Any]:
    config: Config = step.config
    workspace_id, workflow_id = step.workspace_id, step.given.workflow_id
    if config.on_duplicate != "update":
        known = await leads.find(session, workspace_id, workflow_id=workflow_id, email=email)
        if known is not None:
            return _known(config, str(known.id))
    made = await leads.upsert(session, workspace_id, workflow_id=workflow_id, email=email)
    if not made.created and config.on_duplicate != "update":
        # Deleted, or made by somebody else a moment ago.
        return _known(config, str(made.lead.id))
    return await _fill(session, step, made)


def _known(config: Config, lead_id: str) -> dict[str, Any]:
    if config.on_duplicate == "fail":
        raise StepFailed("duplicate_lead", "The workflow has a lead of this address already.")
    return {"lead_id": lead_id, "created": False, "changed": []}


async def _fill(session: AsyncSession, step: Step, made: Upserted) -> dict[str, Any]:
    """Write the fields, and the event that tells what became of the lead."""
    config: Config = step.config
    if "email" in config.fields:
        raise StepFailed("unknown_field", "fields.email: the address is what `email` says.")
    values = {"source": SOURCE, **config.fields} if made.created else config.fields
    lead_id = made.lead.id
    changed = await edits.make(session, step.workspace_id, lead_id, values, setting="fields")
    if made.created or changed:
        event = await leads.add_event(
            session,
            step.workspace_id,
            lead_id,
            CREATED if made.created else UPDATED,
            description=f"{'Created' if made.created else 'Updated'} by a workflow",
            metadata={"fields": changed, "workflow_id": str(step.given.workflow_id)},
            execution_id=step.given.execution_id,
        )
        if made.created:
            await reactions.react(session, step.workspace_id, _creation(step, lead_id, event.id))
    return {"lead_id": str(lead_id), "created": made.created, "changed": changed}


def _creation(step: Step, lead_id: UUID, event_id: UUID) -> reactions.Change:
    return reactions.Change(
        event="lead_created",
        lead_id=lead_id,
        event_id=event_id,
        by="execution",
        execution_id=step.given.execution_id,
    )
