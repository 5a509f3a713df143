"""Looks at what happened to the lead: the database is the truth, what the run was told only wakes it."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from activities import imagined
from activities.step import Step
from activities.world import World
from db import leads
from workflows.messages import Heard, Outcome
from workflows.nodes.logic_wait_for_event import Config, weigh


async def run(step: Step, world: World) -> Outcome:
    """Weigh the events since the run, or the node, began."""
    config: Config = step.config
    entered = step.given.entered_at or step.now
    is_late = config.lookback == "node_start"
    since = entered if is_late else step.given.began_at or entered
    types = {awaited.type for awaited in config.events}
    heard = [event for event in step.given.heard if event.type in types]
    said = [event for event in heard if _row(event) is None and event.at >= since]
    # What it was told of counts, although it may have happened while the run waited to be started.
    told = () if is_late else [row for event in heard if (row := _row(event)) is not None]
    lead, happened = await _happened(step, world, types, since, told)
    scope = {**step.scope, "lead": lead}
    return weigh(config, [*said, *happened], scope=scope, entered_at=entered, now=step.now, zone=step.zone)


def simulate(step: Step) -> Outcome:
    """Weigh the events that the script told the run of."""
    config: Config = step.config
    entered = step.given.entered_at or step.now
    since = entered if config.lookback == "node_start" else step.given.began_at or entered
    heard = [event for event in step.given.heard if event.at >= since]
    scope = {**step.scope, "lead": imagined.given(step).lead or {}}
    return weigh(config, heard, scope=scope, entered_at=entered, now=step.now, zone=step.zone)


def _row(event: Heard) -> UUID | None:
    """Tell which lead event this is; what somebody typed by hand is none, whatever it is called."""
    try:
        return None if event.id is None else UUID(event.id)
    except ValueError:
        return None


async def _happened(
    step: Step, world: World, types: set[str], since: datetime, told: Collection[UUID]
) -> tuple[dict[str, Any], list[Heard]]:
    """Read the lead as it stands now, and its events."""
    lead_id = step.given.lead_id
    if lead_id is None:
        return {}, []
    async with world.database.workspace(step.workspace_id) as session:
        lead = await leads.scope(session, step.workspace_id, lead_id)
        events = await leads.events_since(
            session, step.workspace_id, lead_id, types=types, since=since, told=told
        )
    return lead or {}, [
        Heard(type=event.event_type, at=event.created_at, id=str(event.id), data=event.event_metadata)
        for event in events
    ]
