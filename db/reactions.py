"""Workflows that react to what happens to a lead: found, weighed and queued in its own transaction.

A run that reacts remembers the run that caused it and how many stand before it, so that no workflow triggers
itself for ever: beyond the limit nothing is started, and the lead's history says what was not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, LiteralString
from uuid import UUID

from sqlalchemy import Row, insert, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import leads
from db.models import LeadEvent, UsageEvent, WorkflowExecution
from db.session import fetch
from workflows import conditions

MAX_HOPS = 5
"""Runs in a row that may cause each other."""
CREATED, MOVED = "lead_created", "status_changed"
TRIGGERS = {CREATED: "TRIGGER_LEAD_CREATED", MOVED: "TRIGGER_LEAD_STATUS_CHANGED"}
NOT_STARTED = "WORKFLOW_NOT_STARTED"
LISTENING = """
    SELECT w.id, w.name, w.published_version_id, w.trigger, s.name AS workspace_name, s.slug, s.timezone
    FROM workflows w JOIN workspaces s ON s.id = w.workspace_id
    WHERE w.workspace_id = CAST(:workspace_id AS uuid) AND w.trigger_type = CAST(:awaited AS text)
      AND w.deleted_at IS NULL AND w.status IN ('active', 'paused') AND w.published_version_id IS NOT NULL
    ORDER BY w.id
"""
"""Part of a form's own statement, too: most forms have no listeners and pay nothing for the question."""
IS_HEARD: LiteralString = """
    SELECT 1 FROM workflows WHERE workspace_id = %(workspace_id)s AND trigger_type = %(awaited)s
        AND deleted_at IS NULL AND status IN ('active', 'paused') LIMIT 1
"""

Listener = Row[Any]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happened to a lead, and the line of its history that tells of it."""

    event: Literal["lead_created", "status_changed"]
    lead_id: UUID
    event_id: UUID
    by: Literal["form", "webhook", "api", "execution"]
    execution_id: UUID | None = None
    """The run that did it; a run that came in with the lead did not."""
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True)
class _Weighed:
    """A listener, and why it starts no run, if so."""

    listener: Listener
    reason: str | None = None


async def react(session: AsyncSession, workspace_id: UUID, change: Change) -> list[UUID]:
    """Queue a run of each workflow that waits for such a change; they are started after the commit."""
    given = {"workspace_id": workspace_id, "awaited": TRIGGERS[change.event]}
    # Nearly always there is none: asked by the driver, as every change of a status asks.
    if not await fetch(session, IS_HEARD, given):
        return []
    listeners = (await session.execute(text(LISTENING), given)).all()
    return await queue(session, workspace_id, change, listeners)


async def queue(
    session: AsyncSession, workspace_id: UUID, change: Change, listeners: Sequence[Listener]
) -> list[UUID]:
    """Queue a run of each of these workflows that the change concerns."""
    concerned = [listener for listener in listeners if _is_meant(listener.trigger.get("config", {}), change)]
    if not concerned:
        return []
    trigger = {**_told(change), "cause": {"kind": change.by, "execution_id": _text(change.execution_id)}}
    weighed = await _weigh(session, workspace_id, concerned, change, trigger)
    hops = await _hops(session, workspace_id, change) if weighed else 0
    if hops > MAX_HOPS:
        weighed = [_Weighed(one.listener, one.reason or "hop_limit") for one in weighed]
    await _note(session, workspace_id, change, [one for one in weighed if one.reason], hops=hops)
    started = [one.listener for one in weighed if one.reason is None]
    if not started:
        return []
    return await _insert(session, workspace_id, change, started, trigger=trigger, hops=hops)


def _is_meant(config: Mapping[str, Any], change: Change) -> bool:
    """Weigh what needs no look at the lead."""
    if change.event == CREATED:
        return True
    sources, targets = config.get("fromStatus"), config.get("toStatus")
    return (not sources or change.before in sources) and (not targets or change.after in targets)


async def _weigh(
    session: AsyncSession,
    workspace_id: UUID,
    listeners: Sequence[Listener],
    change: Change,
    trigger: Mapping[str, Any],
) -> list[_Weighed]:
    """Leave out those whose filter does not hold; the lead is read only where there is a filter."""
    filters = [listener.trigger.get("config", {}).get("filter") for listener in listeners]
    lead = await leads.scope(session, workspace_id, change.lead_id) if any(filters) else None
    now = datetime.now(UTC)
    found: list[_Weighed] = []
    for listener, rule in zip(listeners, filters, strict=True):
        try:
            if not rule or _holds(rule, listener, {"trigger": trigger, "lead": lead or {}}, now):
                found.append(_Weighed(listener))
        except conditions.ConditionError:
            # Publishing refuses such a rule. Whoever submits a form is not to suffer for one that is there.
            found.append(_Weighed(listener, "bad_filter"))
    return found


def _holds(rule: Mapping[str, Any], listener: Listener, scope: Mapping[str, Any], now: datetime) -> bool:
    surroundings = {
        "workspace": {
            "name": listener.workspace_name,
            "slug": listener.slug,
            "timezone": listener.timezone,
        },
        "workflow": {"id": str(listener.id), "name": listener.name},
    }
    zone = scope["lead"].get("timezone") or listener.timezone
    return conditions.evaluate(rule, {**scope, **surroundings}, now=now, zone=zone).holds


async def _hops(session: AsyncSession, workspace_id: UUID, change: Change) -> int:
    if change.execution_id is None:
        return 0
    before = await session.scalar(
        select(WorkflowExecution.hops).where(
            WorkflowExecution.workspace_id == workspace_id, WorkflowExecution.id == change.execution_id
        )
    )
    return (before or 0) + 1


async def _note(
    session: AsyncSession, workspace_id: UUID, change: Change, left_out: Iterable[_Weighed], *, hops: int
) -> None:
    """Tell in the lead's history which workflow was not started, and why."""
    reasons = {
        "hop_limit": f"{MAX_HOPS} runs in a row have caused each other",
        "bad_filter": "its filter cannot be read",
    }
    rows = [
        {
            "workspace_id": workspace_id,
            "id": uuid7(),
            "lead_id": change.lead_id,
            "event_type": NOT_STARTED,
            "description": f"“{one.listener.name}” was not started: {reasons[one.reason or '']}",
            "event_metadata": {
                **_told(change),
                "workflow_id": str(one.listener.id),
                "reason": one.reason,
                "hops": hops,
            },
            "triggered_by_workflow_execution_id": change.execution_id,
        }
        for one in left_out
    ]
    if rows:
        await session.execute(insert(LeadEvent).values(rows))


async def _insert(
    session: AsyncSession,
    workspace_id: UUID,
    change: Change,
    listeners: Sequence[Listener],
    *,
    trigger: Mapping[str, Any],
    hops: int,
) -> list[UUID]:
    """Write the runs and their use in one statement."""
    if not listeners:
        return []
    made = {uuid7(): listener for listener in listeners}
    runs = [
        {
            "workspace_id": workspace_id,
            "id": execution_id,
            "workflow_id": listener.id,
            "workflow_version_id": listener.published_version_id,
            "lead_id": change.lead_id,
            "trigger_type": "LEAD_EVENT",
            "trigger_node_id": listener.trigger["id"],
            "status": "queued",
            # Inside a WITH, SQLAlchemy leaves out its own defaults.
            "dispatch_attempts": 0,
            "idempotency_key": f"lead-event:{change.event_id}",
            "trigger_data": dict(trigger),
            "cause_execution_id": change.execution_id,
            "hops": hops,
        }
        for execution_id, listener in made.items()
    ]
    uses = [
        {
            "workspace_id": workspace_id,
            "id": uuid7(),
            "event_type": "execution_requested",
            "event_category": "api",
            "quantity": 1,
            "is_billable": False,
            "related_resource_type": "workflow_execution",
            "related_resource_id": str(execution_id),
            "event_metadata": {"trigger_type": "LEAD_EVENT"},
        }
        for execution_id in made
    ]
    run = insert(WorkflowExecution).values(runs).cte("run")
    await session.execute(insert(UsageEvent).values(uses).add_cte(run))
    return list(made)


def _told(change: Change) -> dict[str, Any]:
    return {
        "lead_id": str(change.lead_id),
        "event": change.event,
        "from": change.before,
        "to": change.after,
    }


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
